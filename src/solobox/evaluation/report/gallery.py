"""The images of the report: thumbnails with boxes drawn on them, embedded in the page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from solobox import boxes
from solobox.boxes import Floats
from solobox.errors import ImageError
from solobox.evaluation.compare import Comparison
from solobox.evaluation.metrics import Evaluation
from solobox.images import drawing
from solobox.images.reading import ImageInput, decode

OTHER: drawing.Color = (232, 92, 208)
"""The color of the other run's box: distinct in hue from blue and orange, and solid unlike the dashed true box."""

_SIDE = 400  # longer side of a thumbnail in pixels: sharp on a phone, small enough for one file
_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """One image of the report.

    name: of the image. note: the metrics below it. alt: its description in words.
    uri: the JPEG as a data URI, empty if it could not be made. width, height: of the JPEG in pixels.
    error: why there is no JPEG.
    """

    name: str
    note: str
    alt: str
    uri: str = ""
    width: int = 0
    height: int = 0
    error: str = ""


def make_thumbnail(
    image: ImageInput, name: str, outlines: Sequence[drawing.Outline], note: str, alt: str
) -> Thumbnail:
    """Draw outlines, in pixels of the upright image, on a thumbnail; a missing image gives one with an `error`."""
    thumbnail = Thumbnail(name, note, alt)
    try:
        decoded = decode(image, at_least=_SIDE)
    except ImageError as error:
        return replace(thumbnail, error=str(error))
    height, width = decoded.pixels.shape[:2]
    ratio = width / decoded.size[0], height / decoded.size[1]
    scaled = [replace(outline, box=boxes.scale(outline.box, *ratio)) for outline in outlines]
    drawn = drawing.draw_reduced(decoded.pixels, scaled, _SIDE)
    buffer = io.BytesIO()
    # Without chroma subsampling, which would blur the thin colored lines.
    drawn.save(buffer, format="JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return replace(thumbnail, uri=uri, width=drawn.width, height=drawn.height)


def by_iou(evaluation: Evaluation, rows: Sequence[int]) -> list[Thumbnail]:
    """Images with the true and the predicted box, and their IoU."""
    ious = [f"{evaluation.iou[row]:.2f}" for row in rows]
    return [
        _with_boxes(evaluation, row, f"IoU {iou}", f"their IoU is {iou}")
        for row, iou in zip(rows, ious, strict=True)
    ]


def least_familiar(evaluation: Evaluation, count: int = 6) -> list[Thumbnail]:
    """The images with the lowest familiarity, the lowest first."""
    values = familiarity(evaluation)
    rows = [int(row) for row in np.argsort(values, kind="stable") if np.isfinite(values[row])][:count]
    return [
        _with_boxes(
            evaluation,
            row,
            f"familiarity {values[row]:.3f}, IoU {evaluation.iou[row]:.2f}",
            f"its familiarity is {values[row]:.3f}",
        )
        for row in rows
    ]


def familiarity(evaluation: Evaluation) -> Floats:
    """The familiarity of each image with a box, (N,), NaN if the model gives none."""
    return np.array([p.familiarity for p in evaluation.predictions], dtype=np.float64)


def of_two_runs(comparison: Comparison, rows: Sequence[int]) -> list[Thumbnail]:
    """Images with the true box and the boxes of both runs; the legend says which is which."""
    dataset, thumbnails = comparison.first.dataset, []
    for row in rows:
        name, first, second = dataset.names[row], comparison.first.iou[row], comparison.second.iou[row]
        outlines = [
            drawing.Outline(comparison.second.predictions[row].box, OTHER),
            drawing.predicted(comparison.first.predictions[row].box),
            drawing.truth(dataset.boxes[row]),
        ]
        alt = (
            f"{name} with the true box and those of both runs; the IoU of {comparison.first_name} is {first:.2f}, that "
            f"of {comparison.second_name} {second:.2f}"
        )
        note = f"IoU {first:.2f}, other {second:.2f}"
        thumbnails.append(make_thumbnail(dataset.images[row], name, outlines, note, alt))
    return thumbnails


def _with_boxes(evaluation: Evaluation, row: int, note: str, description: str) -> Thumbnail:
    dataset = evaluation.dataset
    outlines = [drawing.predicted(evaluation.predictions[row].box), drawing.truth(dataset.boxes[row])]
    alt = f"{dataset.names[row]} with the true and the predicted box; {description}"
    return make_thumbnail(dataset.images[row], dataset.names[row], outlines, note, alt)
