"""Whether the object is in the image at all: a branch beside vectorizer and head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solobox.model.sync_layers import BatchNorm2d

_WIDTH = 64


class Presence(nn.Module):
    """From the backbone's maps to one logit, for models that learn from images without the object too.

    Each map goes through a 1x1 convolution, and its mean and its maximum over the cells to one linear layer: the
    maximum sees small objects, the mean whole scenes. It shares nothing with vectorizer and head, so that learning it
    does not cost them anything.

    channels: of the maps. `temperature`: () float32, what logits are divided by before they are called probabilities
    (Guo et al., 2017, "On Calibration of Modern Neural Networks"); 1 until it is calibrated.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(count, _WIDTH, 1, bias=False) for count in channels)
        self.norms = nn.ModuleList(BatchNorm2d(_WIDTH) for _ in channels)
        self.out = nn.Linear(2 * _WIDTH * len(channels), 1)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Feature maps to (B,) float32 logits, not yet divided by the temperature."""
        pooled = []
        for project, norm, feature in zip(self.projections, self.norms, maps, strict=True):
            cells = F.relu(norm(project(feature)))
            pooled += [cells.mean(dim=(2, 3)), cells.amax(dim=(2, 3))]
        logits: Tensor = self.out(torch.cat(pooled, dim=1)).float().squeeze(1)
        return logits


def temperature(logits: Tensor, present: Tensor) -> Tensor:
    """The temperature () at which held-out logits are the best probabilities, by their likelihood.

    logits: (n,). present: (n,) bool, both values among them. The target probabilities are not 0 and 1 but what so few
    images can support, ``(N + 1) / (N + 2)`` of N with and ``1 / (N + 2)`` of N without the object (Platt, 1999):
    logits that part the two without a mistake would otherwise be driven to certainty.
    """
    z = logits.double()
    having = int(present.sum())
    lacking = len(present) - having
    targets = torch.where(present, (having + 1) / (having + 2), 1 / (lacking + 2)).double()
    # Convex in one over the temperature; on a grid this fine, its minimum is accurate to 1%.
    inverse = torch.logspace(-3, 3, 1400, dtype=torch.float64)
    losses = F.binary_cross_entropy_with_logits(
        inverse[:, None] * z, targets.expand(len(inverse), -1), reduction="none"
    ).mean(dim=1)
    return (1 / inverse[losses.argmin()]).float()
