"""The page of the report: what stands on it, its images, and writing it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from solobox import boxes
from solobox.boxes import Floats
from solobox.evaluation import bootstrap
from solobox.evaluation.compare import Comparison, signed
from solobox.evaluation.metrics import Evaluation, Metrics
from solobox.evaluation.report import charts, statistics, trust
from solobox.evaluation.report.statistics import Measured, RunFacts
from solobox.evaluation.report.thumbnails import Shot, shoot
from solobox.images import drawing
from solobox.utils.atomic import replacing


def write_report(
    path: Path,
    evaluation: Evaluation,
    *,
    title: str,
    run: RunFacts | None,
    comparison: Comparison | None = None,
) -> None:
    """Write the report of an evaluation: one HTML file that needs nothing else and loads nothing.

    The same evaluation gives the same bytes. The file appears whole or not at all.

    path: of the HTML file; its folder is made, and a file of that name is replaced.
    title: heading of the page.
    run: how the model came about; None leaves those parts out, and the page says so.
    comparison: of this evaluation with that of another run, see `comparing.compare`; None leaves that part out.

    Raises ``DataError`` when the file cannot be written.
    """
    text = _environment().get_template("report.html.j2").render(_context(evaluation, title, run, comparison))
    with replacing(Path(path)) as file:
        # File names may hold bytes that are no UTF-8; a page must not fail for them.
        file.write(text.encode("utf-8", "replace").decode("utf-8"))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("solobox.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share, "fixed": _fixed, "value": _value, "signed": signed}
    return environment


def _context(
    evaluation: Evaluation, title: str, run: RunFacts | None, comparison: Comparison | None
) -> dict[str, object]:
    known = statistics.measured(evaluation)
    best, worst = statistics.extremes(known.iou)
    return {
        "title": title,
        "run": run,
        "evaluation": evaluation,
        "metrics": evaluation.metrics,
        "labels": _by_label(evaluation.metrics),
        "summary": _summary(evaluation, known),
        "intervals": {name: of for name, of in evaluation.intervals.items() if np.isfinite(of.lower)},
        "resamples": bootstrap.RESAMPLES,
        "charts": _charts(evaluation, known, run, comparison),
        "compared": trust.compared(comparison) if comparison else None,
        "least_familiar": trust.least_familiar(evaluation),
        "best": [_shot(evaluation, known, i) for i in best],
        "worst": [_shot(evaluation, known, i) for i in worst],
        "unreadable": [
            (name, prediction.error)
            for name, prediction in zip(evaluation.dataset.names, evaluation.predictions, strict=True)
            if prediction.error
        ],
        "spans": _spans(known),
        "recipe": [(name, _value(value)) for name, value in run.recipe.items()] if run else [],
        "timings": [(stage, _duration(s)) for stage, s in run.seconds.items()] if run else [],
        "history_keys": list(dict.fromkeys(key for row in run.history for key in row)) if run else [],
        "truth_color": "#{:02x}{:02x}{:02x}".format(*drawing.TRUTH),
        "predicted_color": "#{:02x}{:02x}{:02x}".format(*drawing.PREDICTED),
        "other_color": "#{:02x}{:02x}{:02x}".format(*trust.OTHER),
    }


def _by_label(metrics: Metrics) -> list[tuple[str, Metrics]]:
    """Sort the labels with their metrics, the worst first."""
    return sorted(metrics.by_label.items(), key=lambda item: (item[1].mean_iou, item[0]))


def _summary(evaluation: Evaluation, known: Measured) -> dict[str, float]:
    """Compute the numbers of the plain sentences beneath the headline."""
    iou, n = evaluation.iou, len(known.iou)
    summary = {
        "close": int((iou >= 0.9).sum()),
        "missed": int((iou < 0.5).sum()),
        "edge_percent": float("nan"),
        "fixed_iou": float("nan"),
    }
    if n:
        fixed = statistics.fixed_box(known.fractions)
        summary["edge_percent"] = float(np.abs(statistics.edge_errors(known.truth, known.predicted)).mean())
        summary["fixed_iou"] = float(boxes.iou(fixed, known.fractions).mean())
    return summary


def _charts(
    evaluation: Evaluation, known: Measured, run: RunFacts | None, comparison: Comparison | None
) -> dict[str, Markup | int]:
    """Draw every chart that there is something to draw for."""
    drawn, all_iou = trust.charts_of(evaluation), evaluation.iou
    beside, dots = trust.compared_charts(comparison) if comparison else ({}, 0)
    drawn |= beside
    shown, median = 0, (np.empty(0), np.empty(0))
    if len(known.iou):
        side = known.object_side
        fixed = statistics.fixed_box(known.fractions)
        drawn["iou"] = charts.iou_histogram(all_iou, "iou")
        drawn["success"] = charts.success_curve(all_iou, "success")
        median = statistics.running_median(side, known.iou)
        drawn["size"], shown = charts.iou_by_size(side, known.iou, median, "size")
        drawn["edges"] = charts.edge_boxes(statistics.edge_errors(known.truth, known.predicted), "edges")
        drawn["objects"] = charts.object_sizes(side, "objects")
        drawn["where"] = charts.coverage_map(statistics.coverage(known.fractions), fixed, "where")
    if run is not None:
        drawn["training"] = charts.training_curve(run.history, run.best_epoch, "training")
    notes: dict[str, Markup | int] = {"shown": shown, "dots": dots, "median": len(median[0])}
    return notes | {name: Markup(svg) for name, svg in drawn.items() if svg}  # noqa: S704


def _spans(known: Measured) -> list[tuple[str, Floats]]:
    """Smallest, median and largest of what describes the data, in words."""
    if not len(known.iou):
        return []
    size = known.truth[:, 2:] - known.truth[:, :2]
    rows = {
        "image width, px": known.size[:, 0],
        "image height, px": known.size[:, 1],
        "object width, px": size[:, 0],
        "object height, px": size[:, 1],
        "object's share of the area, %": 100 * known.object_side**2,
        "object width / height": size[:, 0] / size[:, 1],
    }
    return [(name, np.percentile(values, [0, 50, 100])) for name, values in rows.items()]


def _shot(evaluation: Evaluation, known: Measured, i: int) -> Shot:
    row = int(known.index[i])
    name, iou = evaluation.dataset.names[row], float(known.iou[i])
    outlines = [drawing.predicted(known.predicted[i]), drawing.truth(known.truth[i])]
    alt = f"{name} with the true and the predicted box; their IoU is {iou:.2f}"
    return shoot(evaluation.dataset.images[row], name, outlines, f"IoU {iou:.2f}", alt)


def _share(value: float) -> str:
    return _fixed(100 * value, 1) + "%" if np.isfinite(value) else "–"


def _fixed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def _value(value: object) -> str:
    """Write a setting as a person would."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
