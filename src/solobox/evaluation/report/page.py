"""The page of the report: its content, and writing it."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from solobox import boxes
from solobox.boxes import Floats
from solobox.evaluation import bootstrap
from solobox.evaluation.compare import Comparison, SubsetComparison, signed
from solobox.evaluation.metrics import BoxMetrics, Evaluation
from solobox.evaluation.report import charts, gallery, statistics
from solobox.evaluation.report.metadata import RunMetadata
from solobox.evaluation.report.statistics import MatchedBoxes
from solobox.images import drawing
from solobox.utils.atomic import replacing


def write_report(
    path: Path,
    evaluation: Evaluation,
    *,
    title: str,
    run: RunMetadata | None,
    comparison: Comparison | None = None,
) -> None:
    """Write the report of an evaluation as one HTML file that loads nothing else.

    The same evaluation gives the same bytes. The file is written completely or not at all.

    path: of the HTML file; missing folders are created, and an existing file is replaced.
    title: heading of the page.
    run: metadata of the training run; None leaves those sections empty.
    comparison: with another run, see `compare`; None leaves that section out.

    Raises DataError if the file cannot be written.
    """
    text = _environment().get_template("report.html.j2").render(_context(evaluation, title, run, comparison))
    with replacing(Path(path)) as file:
        # A file name may contain bytes that are not UTF-8, which Python decodes to surrogates.
        file.write(text.encode("utf-8", "replace").decode("utf-8"))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("solobox.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": _share,
        "fixed": _fixed,
        "value": _value,
        "signed": signed,
        "breakable": _breakable,
    }
    return environment


def _context(
    evaluation: Evaluation, title: str, run: RunMetadata | None, comparison: Comparison | None
) -> dict[str, object]:
    matched = statistics.matched_boxes(evaluation)
    best, worst = ([int(matched.index[row]) for row in rows] for rows in statistics.extremes(matched.iou))
    return {
        "title": title,
        "run": run,
        "evaluation": evaluation,
        "metrics": evaluation.metrics,
        "labels": _by_label(evaluation.metrics),
        "summary": _summary(evaluation, matched),
        "intervals": {
            name: interval for name, interval in evaluation.intervals.items() if np.isfinite(interval.lower)
        },
        "resamples": bootstrap.RESAMPLES,
        "charts": _charts(evaluation, matched, run, comparison),
        "comparison": _comparison(comparison) if comparison else None,
        "least_familiar": gallery.least_familiar(evaluation),
        "best": gallery.by_iou(evaluation, best),
        "worst": gallery.by_iou(evaluation, worst),
        "unreadable": [
            (name, prediction.error)
            for name, prediction in zip(evaluation.dataset.names, evaluation.predictions, strict=True)
            if prediction.error
        ],
        "ranges": _ranges(matched),
        "recipe": [(name, _value(value)) for name, value in run.recipe.items()] if run else [],
        "timings": [(stage, _duration(s)) for stage, s in run.seconds.items()] if run else [],
        "history_keys": list(dict.fromkeys(key for row in run.history for key in row)) if run else [],
        "truth_color": "#{:02x}{:02x}{:02x}".format(*drawing.TRUTH),
        "predicted_color": "#{:02x}{:02x}{:02x}".format(*drawing.PREDICTED),
        "other_color": "#{:02x}{:02x}{:02x}".format(*gallery.OTHER),
    }


def _by_label(metrics: BoxMetrics) -> list[tuple[str, BoxMetrics]]:
    """Sort the labels and their metrics by mean IoU, the worst first."""
    return sorted(metrics.by_label.items(), key=lambda item: (item[1].mean_iou, item[0]))


def _summary(evaluation: Evaluation, matched: MatchedBoxes) -> dict[str, float]:
    """Compute the numbers of the sentences below the headline."""
    iou = evaluation.iou
    summary = {
        "close": int((iou >= 0.9).sum()),
        "missed": int((iou < 0.5).sum()),
        "edge_percent": float("nan"),
        "baseline_iou": float("nan"),
    }
    if len(matched.iou):
        median_box = statistics.median_box(matched.normalized)
        errors = statistics.edge_errors(matched.truth, matched.predicted)
        summary["edge_percent"] = float(np.abs(errors).mean())
        summary["baseline_iou"] = float(boxes.iou(median_box, matched.normalized).mean())
    return summary


def _comparison(comparison: Comparison) -> dict[str, object]:
    gains, losses = comparison.extremes()
    everything = SubsetComparison(
        "all",
        len(comparison.differences),
        comparison.first.metrics.mean_iou,
        comparison.second.metrics.mean_iou,
        comparison.mean_iou,
    )
    return {
        "result": comparison,
        "subsets": [everything, *comparison.by_size],
        "labels": comparison.by_label,
        "gains": gallery.of_two_runs(comparison, gains),
        "losses": gallery.of_two_runs(comparison, losses),
        "equal": int((comparison.differences == 0).sum()),
        "higher": int((comparison.differences > 0).sum()),
        "lower": int((comparison.differences < 0).sum()),
    }


def _charts(
    evaluation: Evaluation, matched: MatchedBoxes, run: RunMetadata | None, comparison: Comparison | None
) -> dict[str, Markup | int]:
    """Draw every chart that there is data for; the counts are for the captions."""
    svgs, notes = _uncertainty_charts(evaluation), {"points": 0, "comparison_points": 0, "median": 0}
    if comparison and len(comparison.differences):
        svgs["scatter"], notes["comparison_points"] = charts.iou_against_iou(
            comparison.first.iou, comparison.second.iou, "scatter"
        )
        svgs["differences"] = charts.differences(comparison.differences, "differences")
        if comparison.by_size:
            svgs["intervals"] = charts.intervals(comparison.by_size, "intervals")
    if len(matched.iou):
        side, normalized = matched.object_side, matched.normalized
        svgs["iou"] = charts.iou_histogram(evaluation.iou, "iou")
        svgs["success"] = charts.success_curve(evaluation.iou, "success")
        median = statistics.running_median(side, matched.iou)
        notes["median"] = len(median[0])
        svgs["size"], notes["points"] = charts.iou_by_size(side, matched.iou, median, "size")
        errors = statistics.edge_errors(matched.truth, matched.predicted)
        svgs["edges"] = charts.edge_boxes(errors, "edges")
        svgs["objects"] = charts.object_sizes(side, "objects")
        median_box = statistics.median_box(normalized)
        svgs["heatmap"] = charts.heatmap(statistics.box_heatmap(normalized), median_box, "heatmap")
    if run is not None:
        svgs["training"] = charts.training_curve(run.history, run.best_epoch, "training")
    return {**notes, **{name: Markup(svg) for name, svg in svgs.items() if svg}}  # noqa: S704


def _uncertainty_charts(evaluation: Evaluation) -> dict[str, str]:
    """Draw the charts of margins, presence and familiarity."""
    svgs: dict[str, str] = {}
    if evaluation.coverage is not None:
        svgs["margins"] = charts.coverage_bars(evaluation.coverage, "margins")
    if evaluation.presence is not None:
        svgs["reliability"] = charts.reliability_diagram(evaluation.presence.reliability, "reliability")
    positive, negative = (
        values[np.isfinite(values)]
        for values in (
            np.array([p.presence for p in some], dtype=np.float64)
            for some in (evaluation.predictions, evaluation.negatives)
        )
    )
    if len(positive) or len(negative):
        svgs["presence"] = charts.presence_histogram(positive, negative, "presence")
    if evaluation.familiarity is not None:
        values = gallery.familiarity(evaluation)
        svgs["familiarity"] = charts.familiarity_histogram(values[np.isfinite(values)], "familiarity")
    return svgs


def _ranges(matched: MatchedBoxes) -> list[tuple[str, Floats]]:
    """Smallest, median and largest value of the properties of the images, by name."""
    if not len(matched.iou):
        return []
    size = matched.truth[:, 2:] - matched.truth[:, :2]
    properties = {
        "image width, px": matched.size[:, 0],
        "image height, px": matched.size[:, 1],
        "object width, px": size[:, 0],
        "object height, px": size[:, 1],
        "object area, % of the image": 100 * matched.object_side**2,
        "object width / height": size[:, 0] / size[:, 1],
    }
    return [(name, np.percentile(values, [0, 50, 100])) for name, values in properties.items()]


def _share(value: float) -> str:
    return _fixed(100 * value, 1) + "%" if np.isfinite(value) else "–"


def _fixed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def _breakable(text: object) -> Markup:
    """Escape a name or a path, and let it break after its separators rather than within a word."""
    return Markup(re.sub(r"(?<=[/\\_-])(?=\w)", "<wbr>", str(escape(text))))  # noqa: S704 (escaped before)


def _value(value: object) -> str:
    """Format the value of an option."""
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
