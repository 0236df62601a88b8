"""What the report says about how far boxes can be trusted, and about another run on the same images."""

import numpy as np

from solobox.boxes import Floats
from solobox.evaluation.compare import Comparison, Part
from solobox.evaluation.metrics import Evaluation
from solobox.evaluation.report import trust_charts
from solobox.evaluation.report.thumbnails import Shot, shoot
from solobox.images import drawing

OTHER: drawing.Color = (232, 92, 208)
"""The line of the other run's box: apart from blue and orange by its hue, and from the dashed true box by its line."""

_LEAST_FAMILIAR = 6


def presence_of(evaluation: Evaluation) -> tuple[Floats, Floats]:
    """The known probabilities of presence: of images with the object, (P,), and of those without, (Q,)."""
    parts = (evaluation.predictions, evaluation.negatives)
    there, absent = (np.array([p.presence for p in part], dtype=np.float64) for part in parts)
    return there[np.isfinite(there)], absent[np.isfinite(absent)]


def familiarity_of(evaluation: Evaluation) -> Floats:
    """The familiarity of each image with a box, (N,); NaN where it is not known."""
    return np.array([p.familiarity for p in evaluation.predictions], dtype=np.float64)


def charts_of(evaluation: Evaluation) -> dict[str, str]:
    """Draw what is known of margins, presence and familiarity."""
    drawn: dict[str, str] = {}
    if evaluation.coverage is not None:
        drawn["margins"] = trust_charts.coverage_bars(evaluation.coverage, "margins")
    if evaluation.presence is not None:
        drawn["reliability"] = trust_charts.reliability_diagram(
            evaluation.presence.reliability, "reliability"
        )
    there, absent = presence_of(evaluation)
    if len(there) or len(absent):
        drawn["presences"] = trust_charts.presence_histogram(there, absent, "presences")
    if evaluation.familiarity is not None:
        values = familiarity_of(evaluation)
        drawn["familiar"] = trust_charts.familiarity_histogram(values[np.isfinite(values)], "familiar")
    return drawn


def least_familiar(evaluation: Evaluation) -> list[Shot]:
    """The images that are least like the training ones, the least familiar first."""
    values = familiarity_of(evaluation)
    order = [int(row) for row in np.argsort(values, kind="stable") if np.isfinite(values[row])]
    dataset, shots = evaluation.dataset, []
    for row in order[:_LEAST_FAMILIAR]:
        name, iou = dataset.names[row], float(evaluation.iou[row])
        outlines = [drawing.predicted(evaluation.predictions[row].box), drawing.truth(dataset.boxes[row])]
        note = f"familiarity {values[row]:.3f}, IoU {iou:.2f}"
        alt = f"{name} with the true and the predicted box; its familiarity is {values[row]:.3f}"
        shots.append(shoot(dataset.images[row], name, outlines, note, alt))
    return shots


def compared(comparison: Comparison) -> dict[str, object]:
    """What the page needs for the section on another run: its charts are in `compared_charts`."""
    gains, losses = comparison.extremes()
    found = comparison.mean_iou
    everything = Part(
        "all",
        len(comparison.differences),
        comparison.first.metrics.mean_iou,
        comparison.second.metrics.mean_iou,
        found,
    )
    return {
        "of": comparison,
        "parts": [everything, *comparison.by_size],
        "labels": comparison.by_label,
        "gains": [_beside(comparison, row) for row in gains],
        "losses": [_beside(comparison, row) for row in losses],
        "equal": int((comparison.differences == 0).sum()),
        "higher": int((comparison.differences > 0).sum()),
        "lower": int((comparison.differences < 0).sum()),
    }


def compared_charts(comparison: Comparison) -> tuple[dict[str, str], int]:
    """Draw two runs side by side; how many images are dots of the first chart."""
    if not len(comparison.differences):
        return {}, 0
    beside, shown = trust_charts.iou_against_iou(comparison.first.iou, comparison.second.iou, "beside")
    drawn = {"beside": beside, "differences": trust_charts.differences(comparison.differences, "differences")}
    if comparison.by_size:
        drawn["sizes"] = trust_charts.intervals(comparison.by_size, "sizes")
    return drawn, shown


def _beside(comparison: Comparison, row: int) -> Shot:
    """An image with both runs' boxes and the true one; the legend above says which is which.

    Tags at the lines would hide small objects.
    """
    dataset = comparison.first.dataset
    name, one, other = dataset.names[row], comparison.first.iou[row], comparison.second.iou[row]
    outlines = [
        drawing.Outline(comparison.second.predictions[row].box, OTHER),
        drawing.predicted(comparison.first.predictions[row].box),
        drawing.truth(dataset.boxes[row]),
    ]
    alt = (
        f"{name} with the true box and those of both runs; the IoU of {comparison.name} is {one:.2f}, that of "
        f"{comparison.other} {other:.2f}"
    )
    return shoot(dataset.images[row], name, outlines, f"IoU {one:.2f}, other {other:.2f}", alt)
