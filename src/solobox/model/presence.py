"""The presence branch: whether the object is in the image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solobox.model.sync_layers import BatchNorm2d

_WIDTH = 64


class Presence(nn.Module):
    """From the backbone's maps to one logit, for models trained on images without the object too.

    Each map goes through a 1x1 convolution, and its mean and its maximum over the cells to one linear layer: the
    maximum sees small objects, the mean whole scenes. It shares no weights with vectorizer and head, so that it
    does not make the boxes worse.

    channels: of the maps. `temperature`: () float32, divisor of the logits (Guo et al., 2017, "On Calibration of Modern
    Neural Networks"); 1 until it is calibrated.
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

    logits: (n,). present: (n,) bool, both values among them. The targets are not 0 and 1 but what so few images
    support, ``(N + 1) / (N + 2)`` of N with and ``1 / (N + 2)`` of N without the object (Platt, 1999):
    otherwise logits without a mistake would get a temperature near 0.
    """
    z = logits.double()
    positives = int(present.sum())
    negatives = len(present) - positives
    targets = torch.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2)).double()
    # Convex in one over the temperature; on a grid this fine, the minimum is within 1%.
    inverse = torch.logspace(-3, 3, 1400, dtype=torch.float64)
    losses = F.binary_cross_entropy_with_logits(
        inverse[:, None] * z, targets.expand(len(inverse), -1), reduction="none"
    ).mean(dim=1)
    return (1 / inverse[losses.argmin()]).float()
