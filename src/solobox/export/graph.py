"""A localizer as one module to export: from raw pixels to boxes in pixels, margins, presence and familiarity."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solobox.boxes import OUTWARDS
from solobox.errors import ConfigError
from solobox.model.localizer import Localizer
from solobox.predict.onnx_model import levels_of
from solobox.uncertainty.conformal import MIN_SCALE, Calibration
from solobox.uncertainty.familiarity import RELATIVE_TOLERANCE, Familiarity

SQUARES = "squares"
"""The tensor of the resized images inside an exported graph, (N, 3, side, side) whole numbers in float32."""


PLACES = "places"
"""Where the graph of a localizer that refines looks again, (N, refinements, 4) as fractions of the sides."""


class ExportGraph(nn.Module):
    """From (N, H, W, 3) uint8 upright RGB pixels of any H and W to the tensors that `outputs` names, all float32.

    `forward` also gives what `inner` names: the resized images (`SQUARES`), and where it looks again (`PLACES`). An
    exported file has no such outputs.

    boxes: (N, 4), ``x1, y1, x2, y2`` in pixels of the input, in order and within it.
    std: (N, 4), the standard deviation of each edge's distribution in pixels.
    lower, upper: (N, L, 4), the margins of each edge at each of `levels`; outer: (N, L, 4), the box that holds the
    whole object; all in pixels, see `solobox.uncertainty.conformal`.
    presence: (N,), the calibrated probability that the object is there. familiarity: (N,), see
    `solobox.uncertainty.familiarity`.

    There is no output for what the model has not learned.

    Raises ConfigError, ``size-native``, for a model without a fixed input size.
    """

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        a = localizer.architecture
        if a.size == "native":
            raise ConfigError(
                "a model of size `native` cannot be exported, because its input has no fixed size: train one with a "
                "fixed size (--size 320)",
                code="size-native",
            )
        self.localizer, self.side = localizer, a.input_side
        self.margins = _MarginsModule(localizer.calibration) if localizer.calibration else None
        self.familiarity = _FamiliarityModule(localizer.familiarity) if localizer.familiarity else None
        self.levels: tuple[float, ...] = self.margins.levels if self.margins else ()
        names = ["boxes"]
        names += ["std"] if a.head == "distribution" else []
        names += ["lower", "upper", "outer"] if self.levels else []
        names += ["presence"] if localizer.presence is not None else []
        names += ["familiarity"] if self.familiarity is not None else []
        self.outputs = tuple(names)
        self.inner = (SQUARES, PLACES) if a.refinements else (SQUARES,)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        height, width = pixels.shape[1], pixels.shape[2]
        squares = F.interpolate(
            pixels.permute(0, 3, 1, 2).float(), size=(self.side, self.side), mode="bilinear", antialias=True
        )
        squares = squares.round().clamp(0, 255)  # training images have 8 bits
        located = self.localizer.locate(squares)
        first, last = located.boxes[:, :2], located.boxes[:, 2:]
        ordered = torch.cat([torch.minimum(first, last), torch.maximum(first, last)], dim=1)
        boxes = _scaled(ordered.clamp(0, 1), width, height)
        std = _scaled(located.std, width, height) if "std" in self.outputs else None
        tensors = [boxes] if std is None else [boxes, std]
        if self.margins is not None and self.levels:
            tensors += self.margins(boxes, std, width, height)
        if located.presence is not None and self.localizer.presence is not None:
            tensors.append((located.presence / self.localizer.presence.temperature).sigmoid())
        if self.familiarity is not None:
            tensors.append(self.familiarity(located.maps))
        if PLACES in self.inner:
            return (*tensors, squares, torch.stack(located.places[:-1], dim=1))
        return (*tensors, squares)


class _MarginsModule(nn.Module):
    """`Calibration.margins` at several levels."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.levels = levels_of(calibration)
        # (2, categories, levels): two-sided and outer
        factors = [
            [calibration.factors(level, outer=outer) for level in self.levels] for outer in (False, True)
        ]
        self.register_buffer(
            "factors", torch.tensor(factors).float().transpose(1, 2).unsqueeze(-1).contiguous()
        )
        self.register_buffer("bounds", torch.tensor(calibration.bounds).float())
        self.register_buffer("outwards", torch.tensor(OUTWARDS).float())
        self.factors: Tensor
        self.bounds: Tensor
        self.outwards: Tensor

    def forward(self, boxes: Tensor, std: Tensor | None, width: int, height: int) -> list[Tensor]:
        sides = boxes[:, 2:] - boxes[:, :2]
        sides = torch.cat([sides, sides], dim=1)
        unit = (sides if std is None else torch.maximum(std, MIN_SCALE * sides)).unsqueeze(1)
        middle = boxes.unsqueeze(1)
        two_sided, outer = self._factors_of(sides, width, height)
        margin = two_sided * unit
        bounds = [middle - margin, middle + margin, middle + self.outwards * outer * unit]
        return [_within(edges, width, height) for edges in bounds]

    def _factors_of(self, sides: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
        """The factors (N, levels, 1) for boxes with these sides (N, 4), by their relative size."""
        if not len(self.bounds):
            return self.factors[0], self.factors[1]
        relative = (sides[:, 0] / width * (sides[:, 1] / height)).sqrt()
        category = (relative.unsqueeze(1) >= self.bounds).long().sum(dim=1)
        return self.factors[0].index_select(0, category), self.factors[1].index_select(0, category)


class _FamiliarityModule(nn.Module):
    """`Familiarity` of feature maps."""

    def __init__(self, familiarity: Familiarity) -> None:
        super().__init__()
        for name in ("mean", "components", "explained_variance", "noise_variance", "distances"):
            self.register_buffer(name, torch.from_numpy(np.array(getattr(familiarity, name))))
        self.mean: Tensor
        self.components: Tensor
        self.explained_variance: Tensor
        self.noise_variance: Tensor
        self.distances: Tensor

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        pooled = torch.cat([feature.mean(dim=(2, 3)) for feature in maps], dim=1)
        centered = pooled - self.mean
        projected = (centered @ self.components.T).square()
        residual = (centered.square().sum(dim=1) - projected.sum(dim=1)).clamp(min=0)
        distance = (projected / self.explained_variance).sum(dim=1) + residual / self.noise_variance
        at_least = (self.distances >= distance.unsqueeze(1) * (1 - RELATIVE_TOLERANCE)).float().sum(dim=1)
        return (1 + at_least) / (self.distances.shape[0] + 1)


def _scaled(fractions: Tensor, width: int, height: int) -> Tensor:
    """(..., 4) fractions to pixels. Width and height are symbols in a graph, not tensors."""
    x1, y1, x2, y2 = fractions.unbind(dim=-1)
    return torch.stack([x1 * width, y1 * height, x2 * width, y2 * height], dim=-1)


def _within(edges: Tensor, width: int, height: int) -> Tensor:
    """(..., 4) edges in pixels, clipped to the image."""
    x1, y1, x2, y2 = edges.unbind(dim=-1)
    return torch.stack(
        [x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], dim=-1
    )
