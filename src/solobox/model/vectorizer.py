"""The vectorizer: from feature maps to one vector, or to one sequence for each edge of the box."""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solobox.errors import ConfigError
from solobox.model.sync_layers import BatchNorm2d, Dropout2d

Kind: TypeAlias = Literal["vector", "sequences"]


class ExtraConvs(nn.Module):
    """3x3 convolutions of stride 2 with ReLU, one after the other, on the coarsest map; trained with the head.

    channels: of the backbone's maps, finest first.
    extra: channels of each convolution; with none the maps pass unchanged, and there are no parameters.

    Takes the maps and returns them with the last one replaced: (B, C, h, w) to (B, extra[-1], h', w'), where a
    convolution halves h and w, rounding up. `channels` are the channels of the result.
    """

    def __init__(self, channels: Sequence[int], extra: Sequence[int] = ()) -> None:
        super().__init__()
        steps = pairwise((channels[-1], *extra))
        self.layers = nn.ModuleList(nn.Conv2d(inputs, outputs, 3, 2, 1) for inputs, outputs in steps)
        for layer in self.layers:
            # He et al. (2015): keeps the scale through a ReLU, so that the head sees what it would without these.
            nn.init.kaiming_normal_(layer.get_parameter("weight"), nonlinearity="relu")
            nn.init.zeros_(layer.get_parameter("bias"))
        self.channels = (*channels[:-1], extra[-1]) if extra else tuple(channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Reduce the last map."""
        coarsest = maps[-1]
        for layer in self.layers:
            coarsest = F.relu(layer(coarsest))
        return [*maps[:-1], coarsest]


class Gap(nn.Module):
    """Global average pooling of the coarsest map: (B, C, h, w) to (B, C). Any input size works."""

    kind: Kind = "vector"

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.features = channels[-1]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Average the last map over both axes."""
        return maps[-1].mean(dim=(2, 3))


class Flatten(nn.Module):
    """Every cell of the coarsest map side by side: (B, C, h, w) to (B, C*h*w). Fixes the input size.

    cells: h*w of the coarsest map, see `cells_of`. A map of another size raises ConfigError.
    """

    kind: Kind = "vector"

    def __init__(self, channels: Sequence[int], cells: int) -> None:
        super().__init__()
        self.features = channels[-1] * cells
        self.cells = cells

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Lay the last map out as one vector."""
        height, width = maps[-1].shape[2:]
        if height * width != self.cells:
            raise ConfigError(
                f"the vectorizer `flatten` expects maps of {self.cells} cells and got {height} x {width}: pass "
                "images of the size that it was made for, or use vectorizer `gap`, which takes any"
            )
        return maps[-1].flatten(1)


def cells_of(backbone: nn.Module, extra: ExtraConvs, side: int) -> int:
    """Cells of the coarsest map, after `extra`, of a square of `side` pixels.

    Computed by the network on the meta device: some round up where others round down.
    """
    before, after = (copy.deepcopy(module).to("meta").eval() for module in (backbone, extra))
    height, width = after(before(torch.empty(1, 3, side, side, device="meta")))[-1].shape[2:]
    return int(height * width)


class Edges(nn.Module):
    """Pool each map along one axis only, which keeps positions along the other axis.

    The maps are brought to the stride of the second finest and added, mixed by residual blocks, and condensed
    for each of the four edges: along y for the vertical edges (x1, x2), along x for the horizontal ones, once
    by learned attention and once by the maximum. Output: (B, 4, L + 2, 2 * width) in the order
    x1, y1, x2, y2, where L is the number of cells along that axis; one empty cell is added at each end, since
    an edge may lie a little outside the image. The input must be square. Needs two maps or more.

    channels: of the maps, finest first, each stride twice the one before it.
    width: channels inside.
    blocks: residual blocks of two convolutions.
    dropout: share of channels of the mixed map that is dropped in training.
    """

    kind: Kind = "sequences"

    def __init__(
        self, channels: Sequence[int], *, width: int = 96, blocks: int = 1, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.finest = nn.Conv2d(channels[0], width, 2, 2, bias=False)
        self.others = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels[1:])
        self.norm = BatchNorm2d(width)
        self.drop = Dropout2d(dropout)
        self.blocks = nn.Sequential(*(_Residual(width) for _ in range(blocks)))
        self.attention = nn.Conv2d(width, 4, 1)
        self.features = 2 * width

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Feature maps to (B, 4, L + 2, 2 * width)."""
        mixed = self.finest(maps[0])
        for project, coarse in zip(self.others, maps[1:], strict=True):
            mixed = mixed + F.interpolate(project(coarse), size=mixed.shape[-2:])
        mixed = self.blocks(self.drop(F.relu(self.norm(mixed))))
        cells, logits = mixed.permute(0, 2, 3, 1), self.attention(mixed).permute(0, 2, 3, 1)
        x1, x2 = _pooled(cells.transpose(1, 2), logits[..., 0::2].transpose(1, 2)).unbind(dim=2)
        y1, y2 = _pooled(cells, logits[..., 1::2]).unbind(dim=2)
        return F.pad(torch.stack([x1, y1, x2, y2], dim=1), (0, 0, 1, 1))


def _pooled(lines: Tensor, logits: Tensor) -> Tensor:
    """Condense each line of cells for two edges: (B, L, M, C) and (B, L, M, 2) to (B, L, 2, 2 * C).

    By matrix products rather than by a product and a sum for each edge, which would go four times through memory.
    """
    # Softmax over up to 80 cells wants float32 also where the convolutions run in bf16.
    weights = logits.float().softmax(dim=2).to(lines.dtype)
    attended = weights.transpose(2, 3) @ lines
    greatest = lines.amax(dim=2, keepdim=True).expand_as(attended)
    return torch.cat([attended, greatest], dim=-1)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(x + self.second_norm(self.second(inner)))
