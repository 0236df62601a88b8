"""Backbone, vectorizer and head plugged together: pictures in, one box each out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from solobox import boxes as geometry
from solobox.errors import ConfigError, PictureError
from solobox.localizer import artifact
from solobox.localizer.architecture import Architecture
from solobox.localizer.backbone import Backbone
from solobox.localizer.head import DistributionHead, Output, RegressionHead
from solobox.localizer.runtime import Features, fastest
from solobox.localizer.vectorizer import Edges, Flatten, Gap
from solobox.pictures import Picture, read, to_square
from solobox.prediction import Prediction
from solobox.seen import Seen

Input: TypeAlias = str | Path | bytes | np.ndarray[Any, Any]

_BATCH = 16


class Localizer(nn.Module):
    """Exactly one box for each picture.

    architecture: the parts and their sizes.
    pretrained: the trunk's weights: ``bundled``, ``hub``, ``none`` or a file (see `Backbone`).
    head_start: first weights of vectorizer and head: ``random``, or ``scenes`` for those that come with the install,
        learnt from drawn pictures (`solobox.scenes`), where parts and trunk are the ones they belong to; see
        `started`.

    `forward` takes (B, 3, size, size) RGB in 0..255, a picture squashed to a square, and gives an `Output` with
    boxes as fractions of its sides. `features` and `decide` are its two halves: the trunk, and vectorizer
    with head. `started` says whether vectorizer and head began with weights that come with the install.
    """

    def __init__(
        self, architecture: Architecture, *, pretrained: str = "none", head_start: str = "random"
    ) -> None:
        super().__init__()
        self._features: Features | None = None
        a = architecture
        self.architecture = a
        self.facts: dict[str, object] = {}
        self.seen: Seen | None = None
        self.backbone = Backbone(a.backbone, strides=a.strides, pretrained=pretrained)
        channels = self.backbone.channels
        self.vectorizer: Gap | Flatten | Edges
        if a.vectorizer == "edges":
            self.vectorizer = Edges(channels, width=a.width, blocks=a.blocks, dropout=a.dropout)
        elif a.vectorizer == "gap":
            self.vectorizer = Gap(channels)
        else:
            self.vectorizer = Flatten(channels, cells=(a.size // a.strides[-1]) ** 2)
        length = self.vectorizer.features
        self.head: RegressionHead | DistributionHead
        if a.head == "regression":
            self.head = RegressionHead(length, hidden=a.width)
        else:
            self.head = DistributionHead(
                self.vectorizer.kind, length, cells=a.cells, bins=a.bins, width=a.width
            )
        self.started = (
            head_start == "scenes"
            and pretrained == "bundled"
            and artifact.load_start({"vectorizer": self.vectorizer, "head": self.head})
        )
        self.to(memory_format=torch.channels_last)  # how convolutions are fastest, on CPUs and GPUs alike

    def features(self, pixels: Tensor) -> list[Tensor]:
        """The trunk's maps of (B, 3, size, size) RGB in 0..255."""
        maps: list[Tensor] = self.backbone(pixels)
        return maps

    def decide(self, maps: Sequence[Tensor]) -> Output:
        """The boxes that feature maps tell of."""
        output: Output = self.head(self.vectorizer(maps))
        return output

    def forward(self, pixels: Tensor) -> Output:
        """Trunk, vectorizer and head."""
        return self.decide(self.features(pixels))

    # Using it ------------------------------------------------------------------------------------------

    def predict(self, inputs: Sequence[Input] | Input) -> list[Prediction]:
        """One `Prediction` for each input, in order; a picture that cannot be read has its `error` set.

        inputs: one or several of: a path, a picture file's bytes, or upright RGB pixels (h, w, 3) uint8.
        """
        several = [inputs] if isinstance(inputs, str | Path | bytes | np.ndarray) else inputs
        return list(self.stream(several))

    def stream(self, inputs: Iterable[Input]) -> Iterator[Prediction]:
        """As `predict`, one by one and in constant memory."""
        if self.training:
            raise ConfigError("the localizer is in training mode; call .eval() before predicting")
        source = iter(inputs)
        while batch := list(islice(source, _BATCH)):
            yield from self._predict_batch(batch)

    def _predict_batch(self, inputs: Sequence[Input]) -> list[Prediction]:
        side = self.architecture.size
        results = [Prediction(_name(item)) for item in inputs]
        squares: list[np.ndarray] = []
        readable: list[int] = []
        for index, item in enumerate(inputs):
            try:
                picture = _picture(item, side)
            except PictureError as error:
                results[index] = replace(results[index], error=str(error))
                continue
            squares.append(to_square(picture.pixels, side).transpose(2, 0, 1))
            results[index] = replace(results[index], size=picture.size)
            readable.append(index)
        if not squares:
            return results
        with torch.inference_mode():
            maps = self._trunk()(np.stack(squares))
            output = self.decide([feature.float() for feature in maps])
            fractions, spread = output.boxes.double().cpu().numpy(), output.spread().double().cpu().numpy()
        for row, index in enumerate(readable):
            width, height = results[index].size
            box = geometry.scale(_ordered(fractions[row]), width, height)
            results[index] = replace(
                results[index],
                box=geometry.clip(box, width, height),
                spread=geometry.scale(spread[row], width, height),
            )
        return results

    def _trunk(self) -> Features:
        """The trunk in the fastest correct runtime of this machine, made at the first use."""
        if self._features is None:
            self._features = fastest(self.backbone, self.architecture.size)
        return self._features

    # A trunk that trains, moves or is replaced needs its fast copy made anew.

    def train(self, mode: bool = True) -> "Localizer":  # noqa: FBT001  (torch's own signature)
        """Switch to training mode or out of it."""
        self._features = None
        super().train(mode)
        return self

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """As `torch.nn.Module.load_state_dict`."""
        self._features = None
        return super().load_state_dict(*args, **options)

    def _apply(self, *args: Any, **options: Any) -> "Localizer":
        self._features = None
        super()._apply(*args, **options)  # type: ignore[no-untyped-call]
        return self

    # Keeping it ----------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` into a folder, each of them whole or not at all.

        `facts` (metrics, recipe, versions, ...; plain JSON) is kept in ``config.json`` beside the architecture, and
        `seen`, which pictures it was trained on, in ``seen.npz``.
        """
        artifact.save(Path(folder), self.architecture, self.state_dict(), self.facts, self.seen)

    @classmethod
    def load(cls, folder: str | Path) -> "Localizer":
        """Read what `save` wrote; the localizer is ready to predict.

        Raises ConfigError when the folder is missing, incomplete, or from another version's architecture.
        """
        config = artifact.read_config(Path(folder))
        localizer = cls(artifact.architecture(config, Architecture, Path(folder)))
        artifact.load_state(Path(folder), localizer)
        localizer.facts = {key: value for key, value in config.items() if key not in artifact.RESERVED}
        localizer.seen = Seen.load(Path(folder))
        return localizer.eval()


def _name(item: Input) -> str:
    if isinstance(item, str | Path):
        return str(item)
    return "<bytes>" if isinstance(item, bytes) else "<pixels>"


def _picture(item: Input, side: int) -> Picture:
    if isinstance(item, np.ndarray):
        if item.ndim != 3 or item.shape[2] != 3 or item.dtype != np.uint8 or 0 in item.shape:
            raise PictureError(f"pixels are (h, w, 3) uint8 RGB, not {item.shape} {item.dtype}")
        return Picture(np.ascontiguousarray(item), (item.shape[1], item.shape[0]))
    return read(item, at_least=side)


def _ordered(box: np.ndarray) -> np.ndarray:
    """Four numbers of a regression head may cross; the box they span is meant."""
    x1, y1, x2, y2 = box
    return np.array([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
