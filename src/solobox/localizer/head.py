"""The head: from what the vectorizer gives to a box, as four numbers or as four distributions."""

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solobox.localizer.vectorizer import Kind

HeadName: TypeAlias = Literal["regression", "distribution"]


class Output(NamedTuple):
    """What a head says of a batch.

    boxes: (B, 4) float32, ``x1, y1, x2, y2`` as fractions of the input's sides; may lie a little outside [0, 1].
    logits: (B, 4, N) float32, for each edge the unnormalised log-probabilities of N equal bins, or None for a
        head that gives numbers alone.
    positions: (N,) the centres of these bins as fractions, or None.
    """

    boxes: Tensor
    logits: Tensor | None = None
    positions: Tensor | None = None

    def spread(self) -> Tensor:
        """Standard deviation of each edge's distribution, (B, 4) in fractions; NaN without distributions."""
        if self.logits is None or self.positions is None:
            return torch.full_like(self.boxes, torch.nan)
        probabilities = self.logits.softmax(dim=-1)
        offsets = self.positions - self.boxes.unsqueeze(-1)
        return (probabilities * offsets.square()).sum(dim=-1).sqrt()


class RegressionHead(nn.Module):
    """A fully connected layer with ReLU and four numbers: the article's head. Reads a vector.

    features: length of the vector. hidden: width of the layer between.
    """

    def __init__(self, features: int, *, hidden: int = 512) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, 4)
        # Start from a box in the middle of the picture; zeros would be an empty box, whose IoU has no slope.
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([0.25, 0.25, 0.75, 0.75]))

    def forward(self, vector: Tensor) -> Output:
        """(B, features) to boxes."""
        return Output(self.out(F.relu(self.hidden(vector))).float())


class DistributionHead(nn.Module):
    """A discrete distribution over positions for each edge, whose expectation is the edge.

    As in SimCC (Li et al., 2022, "SimCC: a Simple Coordinate Classification Perspective for Human Pose
    Estimation"), a coordinate is classified into bins finer than a pixel.

    kind, features: what the vectorizer gives, a ``vector`` of that length or ``sequences`` of that many channels.
    cells: cells of the picture along an axis. The bins cover them and one more at each end, i.e. the positions
        from ``-1/cells`` to ``1 + 1/cells``.
    bins: bins in a cell.
    width: channels inside, for sequences; ignored for a vector.
    """

    def __init__(self, kind: Kind, features: int, *, cells: int, bins: int = 32, width: int = 96) -> None:
        super().__init__()
        count = (cells + 2) * bins
        if kind == "sequences":
            self.edges = nn.ModuleList(_SequenceHead(features, width, bins) for _ in range(4))
        else:
            self.edges = nn.ModuleList(nn.Linear(features, count) for _ in range(4))
        self.kind = kind
        margin = 1 / cells
        centres = -margin + (torch.arange(count, dtype=torch.float64) + 0.5) * (1 + 2 * margin) / count
        self.register_buffer("positions", centres.float(), persistent=False)
        self.positions: Tensor

    def forward(self, features: Tensor) -> Output:
        """(B, features) or (B, 4, features, cells + 2) to boxes and their distributions."""
        inputs = features.unbind(dim=1) if self.kind == "sequences" else (features,) * 4
        logits = torch.stack(
            [edge(part) for edge, part in zip(self.edges, inputs, strict=True)], dim=1
        ).float()
        return Output((logits.softmax(dim=-1) * self.positions).sum(dim=-1), logits, self.positions)


class _SequenceHead(nn.Module):
    """Three convolutions along the axis; the channels of the last one are the bins of each cell, in order."""

    def __init__(self, features: int, width: int, bins: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(features, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, bins, 3, padding=1),
        )

    def forward(self, sequence: Tensor) -> Tensor:
        out: Tensor = self.layers(sequence)
        return out.transpose(1, 2).flatten(1)
