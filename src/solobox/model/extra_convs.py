"""Additional convolutions between the backbone and the vectorizer, as in the article."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class Extra(nn.Module):
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
