"""Does the exported file say what the trained localizer says? A file that does not is not written."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from solobox import synthetic
from solobox.boxes import Floats, iou
from solobox.errors import ConfigError
from solobox.export.graph import Graph
from solobox.predict.onnx_runtimes import Engine

MOST_PIXELS = 0.5
"""Largest difference of an edge in pixels."""

MOST_IOU = 0.001
"""Largest difference of the mean IoU with the true boxes."""

_SIZES = (
    (64, 48), (97, 211), (160, 120), (224, 224), (320, 240), (333, 500), (480, 640), (500, 375), (641, 427),
    (768, 1024), (1280, 720), (1500, 90), (90, 1500), (2000, 1333),
)  # fmt: skip
"""Widths and heights of the drawn images: small and large, wide and tall, odd and even."""


@dataclass(frozen=True, slots=True)
class Case:
    """An image to compare on. pixels: (h, w, 3) uint8. box: (4,) in its pixels, NaN for one without the object."""

    pixels: npt.NDArray[np.uint8]
    box: Floats


@dataclass(frozen=True, slots=True)
class Parity:
    """What was found on `count` images.

    pixels: the largest difference of any number in pixels; of: the output that it is of. figures: that of presence and
    familiarity. iou: the difference of the mean IoU.
    """

    count: int
    pixels: float
    of: str
    figures: float
    iou: float

    def __str__(self) -> str:
        return (
            f"{self.count} images by PyTorch and by the exported file: at most {self.pixels:.3f} px apart "
            f"({self.of}), mean IoU {self.iou:.5f} apart"
        )


def drawn_cases(seed: int = 0) -> list[Case]:
    """Scenes of many sizes, each with its true box."""
    drawn = (synthetic.draw(seed + place, size) for place, size in enumerate(_SIZES))
    return [Case(scene.pixels, np.full(4, np.nan) if scene.box is None else scene.box) for scene in drawn]


def compare(graph: Graph, engine: Engine, cases: Sequence[Case]) -> Parity:
    """Show both the same raw pixels, and compare everything that they give."""
    worst, of, figures = 0.0, "boxes", 0.0
    overlaps: list[tuple[float, float]] = []
    for case in cases:
        pixels = np.ascontiguousarray(case.pixels[np.newaxis])
        with torch.inference_mode():
            wanted = dict(zip(graph.outputs, graph(torch.from_numpy(pixels)), strict=True))
        given = engine.run(pixels, graph.outputs)
        for name, tensor in wanted.items():
            apart = float(np.max(np.abs(tensor.numpy() - given[name])))
            if name in ("presence", "familiarity"):
                figures = max(figures, apart)
            elif apart > worst or np.isnan(apart):
                worst, of = apart, name
        if np.isfinite(case.box).all():
            mine, theirs = (
                np.asarray(boxes[0], dtype=np.float64) for boxes in (wanted["boxes"], given["boxes"])
            )
            overlaps.append((float(iou(mine, case.box)), float(iou(theirs, case.box))))
    mean = np.mean(overlaps, axis=0) if overlaps else np.zeros(2)
    return Parity(len(cases), worst, of, figures, float(abs(mean[0] - mean[1])))


def require(parity: Parity) -> None:
    """Raise ConfigError where the two disagree."""
    agree = parity.pixels <= MOST_PIXELS and parity.iou <= MOST_IOU and parity.figures <= 0.05
    if not agree:
        raise ConfigError(
            f"the exported file would not say what the model says ({parity}; at most {MOST_PIXELS} px and {MOST_IOU} "
            "are let pass), so nothing was written. Please report this with the versions of torch and onnxruntime"
        )
