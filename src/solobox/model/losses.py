"""Losses of one box.

Boxes are (B, 4) ``x1, y1, x2, y2`` as fractions of the input's sides. Every loss is a mean over the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from solobox.config.losses import parse
from solobox.errors import ConfigError
from solobox.model.heads import Output

_EPS = 1e-7


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU pair by pair: (B, 4) and (B, 4) to (B,)."""
    inter, union = _overlap(a, b)
    return inter / union.clamp(min=_EPS)


def giou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - GIoU (Rezatofighi et al., 2019)."""
    inter, union = _overlap(a, b)
    hull = _sides(_hull(a, b)).prod(dim=-1).clamp(min=_EPS)
    return (1 - inter / union.clamp(min=_EPS) + (hull - union) / hull).mean()


def diou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - DIoU (Zheng et al., 2020): also the distance of the centers, in units of the hull's diagonal."""
    return (1 - box_iou(a, b) + _center_term(a, b)).mean()


def ciou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - CIoU (Zheng et al., 2020): DIoU and the difference of the aspect ratios."""
    iou = box_iou(a, b)
    (aw, ah), (bw, bh) = _sides(a).unbind(-1), _sides(b).unbind(-1)
    angle = torch.atan(bw / bh.clamp(min=_EPS)) - torch.atan(aw / ah.clamp(min=_EPS))
    aspect = 4 / math.pi**2 * angle.square()
    with torch.no_grad():
        alpha = aspect / (1 - iou + aspect).clamp(min=_EPS)
    return (1 - iou + _center_term(a, b) + alpha * aspect).mean()


def kl_loss(output: Output, target: Tensor, *, sigma: float) -> Tensor:
    """Kullback-Leibler divergence of each edge's distribution from a Gaussian around the true edge.

    sigma: standard deviation of the Gaussian, as a fraction of the input's side. An edge beyond the range of
    the bins is taken at its end.
    """
    if output.logits is None or output.positions is None:
        raise ConfigError("the loss kl needs the distribution head", code="options-conflict")
    positions = output.positions
    center = target.clamp(positions[0], positions[-1]).unsqueeze(-1)
    expected = (-0.5 * ((positions - center) / sigma).square()).softmax(dim=-1)
    predicted = output.logits.log_softmax(dim=-1)
    return (expected * (expected.clamp(min=1e-12).log() - predicted)).sum(dim=-1).mean()


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    shared = torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], dim=-1)
    inter = _sides(shared).prod(dim=-1)
    return inter, _sides(a).prod(dim=-1) + _sides(b).prod(dim=-1) - inter


def _sides(box: Tensor) -> Tensor:
    return (box[..., 2:] - box[..., :2]).clamp(min=0)


def _hull(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], dim=-1)


def _center_term(a: Tensor, b: Tensor) -> Tensor:
    between = ((a[..., :2] + a[..., 2:]) - (b[..., :2] + b[..., 2:])) / 2
    diagonal = _sides(_hull(a, b)).square().sum(dim=-1).clamp(min=_EPS)
    return between.square().sum(dim=-1) / diagonal


SIGMA = 0.0115
"""The standard deviation of `kl`'s target distribution: see `Loss`."""

_BOX_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "iou": lambda a, b: (1 - box_iou(a, b)).mean(),
    "giou": giou_loss,
    "diou": diou_loss,
    "ciou": ciou_loss,
}


BoxLoss: TypeAlias = Callable[[Output, Tensor], Tensor]
"""A loss of a head's output and the true boxes (B, 4) ``x1, y1, x2, y2`` as fractions: a scalar, the batch's mean."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A weighted sum of losses; a `BoxLoss`.

    terms: weights and names, see `config.losses.parse`.
    sigma: standard deviation of the target distribution of ``kl``, as a fraction of the input's side.
    beta: for ``smooth_l1``, as a fraction of the input's side: below it the loss is a square, beyond it a line. With
        PyTorch's 1 it would be MSE in disguise.
    """

    terms: tuple[tuple[float, str], ...]
    sigma: float = SIGMA
    beta: float = 0.1

    @classmethod
    def parse(cls, text: str, *, sigma: float = SIGMA, beta: float = 0.1) -> "Loss":
        """The loss of a recipe's text, such as ``kl + giou``."""
        return cls(parse(text), sigma, beta)

    def __call__(self, output: Output, target: Tensor) -> Tensor:
        """The weighted sum for a batch, a scalar. target: (B, 4)."""
        total = output.boxes.new_zeros(())
        for weight, name in self.terms:
            if name == "kl":
                total = total + weight * kl_loss(output, target, sigma=self.sigma)
            elif name == "smooth_l1":
                total = total + weight * F.smooth_l1_loss(output.boxes, target, beta=self.beta)
            else:
                total = total + weight * _BOX_LOSSES[name](output.boxes, target)
        return total


def with_presence(loss: BoxLoss) -> BoxLoss:
    """A loss of boxes, plus the binary cross-entropy of presence where the model learns it.

    A row of NaN in the target is an image without the object, which only such a model may see. `loss` leaves it out
    and is weighted by the share of the other rows: so the loss of a batch is the mean of those of its parts.
    """

    def combined(output: Output, target: Tensor) -> Tensor:
        if output.presence is None:
            return loss(output, target)
        present = torch.isfinite(target).all(dim=1)
        total = F.binary_cross_entropy_with_logits(output.presence, present.float())
        if present.any():
            return total + present.float().mean() * loss(_rows(output, present), target[present])
        # Zero gradients: in distributed training every rank must go through each synchronized layer.
        zero = output.boxes.sum() if output.logits is None else output.boxes.sum() + output.logits.sum()
        return total + 0 * zero

    return combined


def _rows(output: Output, rows: Tensor) -> Output:
    logits = None if output.logits is None else output.logits[rows]
    return Output(output.boxes[rows], logits, output.positions)


def clip_to_reach(targets: Tensor, cells: int) -> Tensor:
    """Targets (..., 4) clipped to what a distribution over so many cells can express outside of the crop."""
    reach = min(0.05, 0.9 / cells)
    return targets.clamp(-reach, 1 + reach)
