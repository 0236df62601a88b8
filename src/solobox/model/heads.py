"""Heads: from the output of the vectorizer to a box, by regression or by a distribution for each edge.

The four numbers of a regression head are ``corners`` (x1, y1, x2, y2), ``center_size`` (cx, cy, w, h) or
``corner_size`` (x1, y1, w, h). `solobox.boxes.convert` does the same on arrays.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solobox.config.architecture import BoxForm
from solobox.model.vectorizer import Kind

_SMOOTHING = 0.03
"""Standard deviation of the Gaussian of `Output.likeliest`, as a fraction of the side."""


class Output(NamedTuple):
    """Output of a head for a batch of B images.

    boxes: (B, 4) float32, ``x1, y1, x2, y2`` as fractions of the input's sides; may lie a little outside [0, 1].
    logits: (B, 4, N) float32, unnormalized log-probabilities of N equal bins for each edge; None for a
        regression head.
    positions: (N,) centers of these bins as fractions, or None.
    presence: (B,) float32, logits of `Presence`; None where presence is not learned.
    """

    boxes: Tensor
    logits: Tensor | None = None
    positions: Tensor | None = None
    presence: Tensor | None = None

    def std(self) -> Tensor:
        """Standard deviation of each edge's distribution, (B, 4) in fractions; NaN without distributions."""
        if self.logits is None or self.positions is None:
            return torch.full_like(self.boxes, torch.nan)
        probabilities = self.logits.softmax(dim=-1)
        offsets = self.positions - self.boxes.unsqueeze(-1)
        return (probabilities * offsets.square()).sum(dim=-1).sqrt()

    def likeliest(self) -> Tensor:
        """`boxes`, (B, 4), drawn to where each edge most likely is.

        Of an edge that may be in either of two places, the expectation lies between, where it is not. These are the
        expectations of the 4th power of the distribution, smoothed first: nearly its mode, and yet continuous, so that
        a rounding error changes them little. For a place to look at again; as boxes they are worse where objects are
        large (bench/LOG.md).
        """
        if self.logits is None or self.positions is None:
            return self.boxes
        between = (self.positions.unsqueeze(0) - self.positions.unsqueeze(1)) / _SMOOTHING
        smooth = self.logits.softmax(dim=-1) @ (-0.5 * between.square()).exp()
        weights = (smooth / smooth.amax(dim=-1, keepdim=True)).square().square()
        return (weights * self.positions).sum(dim=-1) / weights.sum(dim=-1)


class RegressionHead(nn.Module):
    """A fully connected layer with ReLU and four numbers: the article's head. Reads a vector.

    features: length of the vector. hidden: width of the layer between.
    box: what the four numbers are, see `to_corners`; the output always has corners.
    """

    def __init__(self, features: int, *, hidden: int = 512, box: BoxForm = "corners") -> None:
        super().__init__()
        self.box = box
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, 4)
        # Start from a box in the middle of the image; zeros would be an empty box, whose IoU has no slope.
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias.copy_(from_corners(torch.tensor([0.25, 0.25, 0.75, 0.75]), box))

    def forward(self, vector: Tensor) -> Output:
        """(B, features) to boxes."""
        numbers = self.out(F.relu(self.hidden(vector)))
        return Output(to_corners(numbers.float(), self.box))


class DistributionHead(nn.Module):
    """A discrete distribution over positions for each edge, whose expectation is the edge.

    As in SimCC (Li et al., 2022, "SimCC: a Simple Coordinate Classification Perspective for Human Pose
    Estimation"), a coordinate is classified into bins finer than a pixel.

    kind, features: output of the vectorizer, a ``vector`` of that length or ``sequences`` of that many channels.
    cells: cells of the image along an axis. The bins cover them and one more at each end, i.e. the positions
        from ``-1/cells`` to ``1 + 1/cells``.
    bins: bins in a cell.
    width: channels inside, for sequences; ignored for a vector.
    """

    def __init__(self, kind: Kind, features: int, *, cells: int, bins: int = 32, width: int = 96) -> None:
        super().__init__()
        count = (cells + 2) * bins
        self.layers: nn.Module
        if kind == "sequences":
            self.layers = nn.Sequential(
                _EdgeConv(features, width),
                nn.ReLU(),
                _EdgeConv(width, width),
                nn.ReLU(),
                _EdgeConv(width, bins),
            )
        else:
            self.layers = nn.Linear(features, 4 * count)
        margin = 1 / cells
        centers = -margin + (torch.arange(count, dtype=torch.float64) + 0.5) * (1 + 2 * margin) / count
        self.register_buffer("positions", centers.float(), persistent=False)
        self.positions: Tensor

    def forward(self, features: Tensor) -> Output:
        """(B, features) or (B, 4, cells + 2, features) to boxes and their distributions."""
        # The channels of a sequence's last layer are the bins of each cell, in order.
        logits = self.layers(features).float().reshape(features.shape[0], 4, self.positions.shape[0])
        return Output((logits.softmax(dim=-1) * self.positions).sum(dim=-1), logits, self.positions)


class _EdgeConv(nn.Module):
    """A convolution of width 3 along each edge's sequence, with separate weights for each edge.

    (B, 4, L, inputs) to (B, 4, L, outputs). As one batched matrix product it takes a third of the time of four
    convolutions on a CPU.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = (3 * inputs) ** -0.5  # as PyTorch's convolutions begin
        self.weight = nn.Parameter(torch.empty(4, 3 * inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(4, 1, outputs).uniform_(-bound, bound))

    def forward(self, sequences: Tensor) -> Tensor:
        batch, edges, length, _ = sequences.shape
        padded = F.pad(sequences, (0, 0, 1, 1))
        neighbors = torch.cat([padded[:, :, i : i + length] for i in range(3)], dim=-1)
        rows = neighbors.transpose(0, 1).reshape(edges, batch * length, -1)
        out = torch.baddbmm(self.bias.to(rows.dtype), rows, self.weight.to(rows.dtype))
        return out.reshape(edges, batch, length, -1).transpose(0, 1)


def to_corners(numbers: Tensor, form: BoxForm) -> Tensor:
    """Four numbers (..., 4) in one of the forms of `BoxForm` to ``x1, y1, x2, y2``, in the same unit and type.

    A negative size gives corners that are out of order.
    """
    position, size = numbers[..., :2], numbers[..., 2:]
    if form == "center_size":
        return torch.cat([position - size / 2, position + size / 2], dim=-1)
    if form == "corner_size":
        return torch.cat([position, position + size], dim=-1)
    return numbers


def from_corners(boxes: Tensor, form: BoxForm) -> Tensor:
    """The inverse: ``x1, y1, x2, y2`` (..., 4) to four numbers of a form."""
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    if form == "center_size":
        return torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)
    if form == "corner_size":
        return torch.cat([top_left, bottom_right - top_left], dim=-1)
    return boxes
