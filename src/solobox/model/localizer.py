"""The localizer: backbone, vectorizer and head; one box for each image."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from solobox.boxes import Floats
from solobox.config.architecture import Architecture
from solobox.data.fingerprints import Fingerprints
from solobox.errors import ConfigError
from solobox.images.reading import ImageInput, decode
from solobox.model import native_size, saving
from solobox.model.backbone import Backbone
from solobox.model.heads import DistributionHead, Output, RegressionHead
from solobox.model.presence import Presence
from solobox.model.refiner import (
    DOUBT,
    Refiner,
    crop_squares,
    from_crop,
    reduce_squares,
    regions_around,
    worthwhile,
)
from solobox.model.runtime import Features, Pixels, fastest
from solobox.model.threads import single_threaded_map
from solobox.model.vectorizer import Edges, ExtraConvs, Flatten, Gap, cells_of
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import (
    NetworkInput,
    PredictOptions,
    Predictor,
    RawOutput,
    batched,
    in_order,
    resize_to_square,
)
from solobox.uncertainty.familiarity import Familiarity

if TYPE_CHECKING:
    from solobox.export import ExportResult
    from solobox.hub.push import Pushed
    from solobox.uncertainty.conformal import Calibration

_BATCH_SIZE = 16
_FAMILIARITY = "familiarity."
"""Prefix of the tensors of `Localizer.familiarity` in the model's file."""
CUSTOM = "custom"
"""`Architecture.backbone` of a localizer whose backbone is a module of the user's."""


class Located(NamedTuple):
    """All that a localizer computes for B images.

    boxes, std: (B, 4) float32 as fractions of the image's sides; the boxes may lie a little outside [0, 1].
    places: where one looks again, each (B, 4) as `boxes`: first where each edge most likely is (`Output.likeliest`),
        then each refined box.
    presence: (B,) float32 logits, or None. maps: of the first look, (B, C, h, w) each.
    """

    boxes: Tensor
    std: Tensor
    places: tuple[Tensor, ...]
    presence: Tensor | None
    maps: list[Tensor]


class Localizer(Predictor, nn.Module):
    """Exactly one box for each image.

    architecture: the modules and their sizes.
    pretrained: the backbone's weights: ``bundled``, ``hub``, ``none`` or a file (see `Backbone`).
    pretrained_head: first weights of vectorizer and head: ``random``, or ``synthetic`` for those that come with the
        install, trained on synthetic images (`solobox.synthetic`), where architecture and backbone match them;
        `has_pretrained_head` says whether they did.
    backbone: a custom network instead of `architecture.backbone` and `pretrained`, see `Backbone`.

    `forward` takes (B, 3, H, W) RGB in 0..255, images resized to squares of `architecture.size` (or, with size
    ``native``, one size for the batch), and returns an `Output` with boxes as fractions of the sides. `features` and
    `decide` are its two halves: the backbone, and additional convolutions, vectorizer and head. This is the first look;
    `locate` refines its boxes too, where the localizer has a `refiner`.

    metadata: recipe, history, versions, ... of a trained localizer, plain JSON. fingerprints: of the images that it was
    trained on. calibration, familiarity: see `Predictor`.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        pretrained: str = "none",
        pretrained_head: str = "random",
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self._features: dict[int, Features] = {}
        a = architecture if backbone is None else replace(architecture, backbone=CUSTOM)
        if backbone is None and a.backbone == CUSTOM:
            raise ConfigError(
                "this localizer has a custom backbone: pass the module as `backbone`",
                code="custom-backbone",
            )
        self.architecture = a
        self.metadata: dict[str, object] = {}
        self.fingerprints: Fingerprints | None = None
        self.calibration: Calibration | None = None
        self.familiarity: Familiarity | None = None
        self.backbone = Backbone(a.backbone, strides=a.strides, pretrained=pretrained, body=backbone)
        self.extra = ExtraConvs(self.backbone.channels, a.extra)
        channels = self.extra.channels
        self.vectorizer: Gap | Flatten | Edges
        if a.vectorizer == "edges":
            self.vectorizer = Edges(channels, width=a.width)
        elif a.vectorizer == "gap":
            self.vectorizer = Gap(channels)
        else:
            self.vectorizer = Flatten(channels, cells_of(self.backbone, self.extra, a.side))
        length = self.vectorizer.features
        self.head: RegressionHead | DistributionHead
        if a.head == "regression":
            self.head = RegressionHead(length, hidden=a.width, box=a.box)
        else:
            self.head = DistributionHead(
                self.vectorizer.kind, length, cells=a.cells, bins=a.bins, width=a.width
            )
        self.presence = Presence(self.backbone.channels) if a.presence else None
        self.refiner = Refiner(self.backbone.channels, a) if a.refinements else None
        self.has_pretrained_head = (
            backbone is None
            and pretrained_head == "synthetic"
            and pretrained == "bundled"
            and saving.load_pretrained_head({"vectorizer": self.vectorizer, "head": self.head})
        )
        self.to(memory_format=torch.channels_last)  # how convolutions are fastest, on CPUs and GPUs alike

    def features(self, pixels: Tensor) -> list[Tensor]:
        """The backbone's maps of (B, 3, H, W) RGB in 0..255."""
        maps: list[Tensor] = self.backbone(pixels)
        return maps

    def decide(self, maps: Sequence[Tensor]) -> Output:
        """From feature maps to boxes: additional convolutions, vectorizer, head and presence."""
        return run_head(self.extra, self.vectorizer, self.head, self.presence, maps)

    def forward(self, pixels: Tensor) -> Output:
        """Both halves."""
        return self.decide(self.features(pixels))

    def set_refiner(self, refiner: Refiner, refinements: int) -> None:
        """Refine the boxes of the first look from now on. refinements: how many times, see `Architecture`."""
        self.refiner = refiner
        self.architecture = replace(self.architecture, refinements=refinements)

    def twin(self) -> "Localizer":
        """A copy that shares the backbone, compiled once for both, and whose other parts learn alone."""
        return copy.deepcopy(self, {id(each): each for each in (self.backbone, self._features)})

    # Prediction ----------------------------------------------------------------------------------------

    def check(self, options: PredictOptions) -> PredictOptions:
        """See `Predictor`. Raises ConfigError ``training-mode`` too: its predictions would differ."""
        if self.training:
            raise ConfigError(
                "the localizer is in training mode; call .eval() before predicting", code="training-mode"
            )
        return super().check(options)

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        """1 for images of native size, which differ in size."""
        return 1 if self.architecture.size == "native" else _BATCH_SIZE

    def _batches(
        self, images: Iterator[ImageInput], options: PredictOptions
    ) -> Iterator[Sequence[Prediction]]:
        """On a CPU, several at once, each in a thread that decodes and predicts."""
        batches, predict = batched(images, self.batch_size), partial(self.predict_batch, options=options)
        if next(self.parameters()).device.type != "cpu":
            yield from map(predict, batches)
            return
        self.compile_backbone()
        yield from single_threaded_map(predict, batches)

    def locate(
        self,
        pixels: Tensor,
        features: Callable[[Tensor], list[Tensor]] | None = None,
        *,
        first_look: bool = False,
        places: Sequence[Tensor] = (),
    ) -> Located:
        """The whole prediction: the first look, and the refinements.

        pixels: (B, 3, S, S) RGB, whole numbers in 0..255 as float32, S = `Architecture.input_side` (or of native size).
        features: instead of `features`, another runtime of the backbone. first_look: do not refine.
        places: where to look again, (B, 4) for each refinement, instead of where the look before found the object.
        """
        look = features or self.features
        maps = look(reduce_squares(pixels, self.architecture.detail))
        output = self.decide(maps)
        boxes, std = output.boxes, output.std()
        place = output.likeliest() if self.refiner is not None else boxes
        located = Located(boxes, std, (place,), output.presence, maps)
        for index in range(0 if first_look else self.architecture.refinements):
            place = places[index] if places else located.places[-1]
            located = self._refine(pixels, located, place, std, look)
        return located

    def _refine(
        self,
        pixels: Tensor,
        located: Located,
        place: Tensor,
        first_std: Tensor,
        look: Callable[[Tensor], list[Tensor]],
    ) -> Located:
        """One refinement. first_std: (B, 4), the standard deviations of the first look."""
        assert self.refiner is not None  # noqa: S101  (the architecture says so)
        regions = regions_around(place)
        output = self.refiner(look(crop_squares(pixels, regions, self.refiner.side)))
        sides = (regions[:, 2:] - regions[:, :2]).repeat(1, 2)
        chosen = worthwhile(regions, first_std, self.architecture).unsqueeze(1)
        refined = from_crop(output.boxes, regions)
        std = ((output.std() * sides).square() + (DOUBT * first_std).square()).sqrt()
        return located._replace(
            boxes=torch.where(chosen, refined, located.boxes),
            std=torch.where(chosen, std, located.std),
            places=(*located.places, torch.where(chosen, refined, place)),
        )

    def preprocess(self, image: ImageInput) -> NetworkInput:
        """See `Predictor`; with size ``native`` an image keeps its size, see `native_size.resize_native`."""
        a = self.architecture
        if a.size == "native":
            decoded = decode(image, at_least=native_size.LONGEST)
            return NetworkInput(native_size.resize_native(decoded, a.strides[-1]), decoded.size)
        return resize_to_square(image, a.input_side)

    def infer(self, pixels: Pixels) -> RawOutput:
        """See `Predictor`: the backbone in the fastest runtime of this machine, then the heads."""
        return self.raw_output(self.locate_fast(pixels))

    def locate_fast(
        self, pixels: Pixels, *, first_look: bool = False, places: Sequence[Tensor] = ()
    ) -> Located:
        """`locate` for (B, S, S, 3) uint8 RGB, with the backbone in the fastest runtime of this machine."""
        with torch.inference_mode():
            planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
            squares = planes.to(next(self.parameters()).device).float()
            return self.locate(
                squares,
                lambda batch: self.maps(batch.to(torch.uint8).cpu().numpy()),
                first_look=first_look,
                places=places,
            )

    def raw_output(self, located: Located) -> RawOutput:
        """What `infer` gives, of what `locate` gives."""
        familiarity = np.full(len(located.boxes), np.nan)
        if self.familiarity:
            familiarity = self.familiarity(pooled(located.maps))
        return raw_output(
            located.boxes, located.std, self.probabilities(located.presence, len(located.boxes)), familiarity
        )

    @property
    def has_presence(self) -> bool:
        """Whether predictions have `presence`."""
        return self.presence is not None

    @property
    def has_familiarity(self) -> bool:
        """Whether predictions have `familiarity`."""
        return self.familiarity is not None

    @property
    def n_reference(self) -> int | None:
        """See `Predictor`."""
        return self.familiarity.n_groups if self.familiarity is not None else None

    def maps(self, pixels: np.ndarray) -> list[Tensor]:
        """The backbone's maps of (B, 3, H, W) uint8 RGB in float32, by the fastest runtime of this machine.

        In float32, so that a trained and an exported localizer agree to a rounding error.
        """
        side = 0 if self.architecture.size == "native" else int(pixels.shape[2])
        return [feature.float() for feature in self._runtime(side)(pixels)]

    def compile_backbone(self) -> None:
        """Compile the backbone for what prediction shows it, on as many processors as PyTorch uses in this thread.

        Otherwise its first use does, and only for the thread that uses it.
        """
        a = self.architecture
        if a.size != "native":
            self._runtime(a.side)
            if self.refiner is not None:
                self._runtime(self.refiner.side)

    def _runtime(self, side: int) -> Features:
        """For squares of `side` pixels, or 0 for images of native size."""
        if side not in self._features:
            self._features[side] = fastest(self.backbone, side or self.architecture.size, exact=True)
        return self._features[side]

    def probabilities(self, logits: Tensor | None, count: int) -> np.ndarray:
        """`Prediction.presence` of a batch, (count,) float64; NaN where it was not learned."""
        if logits is None or self.presence is None:
            return np.full(count, np.nan)
        calibrated: np.ndarray = (logits / self.presence.temperature).double().sigmoid().cpu().numpy()
        return calibrated

    # A backbone that trains, moves or gets other weights is compiled again.

    def train(self, mode: bool = True) -> "Localizer":  # noqa: FBT001  (torch's own signature)
        """Switch to training mode or out of it."""
        self._features = {}
        super().train(mode)
        return self

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """As `torch.nn.Module.load_state_dict`."""
        self._features = {}
        return super().load_state_dict(*args, **options)

    def _apply(self, *args: Any, **options: Any) -> "Localizer":
        self._features = {}
        super()._apply(*args, **options)  # type: ignore[no-untyped-call]
        return self

    # Saving --------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors``, ``config.json`` and ``fingerprints.npz`` into a folder, replacing a model there.

        `metadata` is saved in ``config.json`` with the architecture and the quantiles of margins (`calibration`).
        """
        margins = {"margins": self.calibration.to_dict()} if self.calibration else {}
        state = dict(self.state_dict())
        if self.familiarity is not None:
            state |= {
                f"{_FAMILIARITY}{name}": torch.from_numpy(a) for name, a in self.familiarity.arrays().items()
            }
        saving.save(Path(folder), self.architecture, state, margins | self.metadata, self.fingerprints)

    def export(self, path: str | Path, **options: Any) -> "ExportResult":
        """Write one ONNX file that runs without PyTorch; see `solobox.export.export` for its options and errors."""
        from solobox.export import export

        return export(self, path, **options)

    def push_to_hub(self, repository: str, **options: Any) -> "Pushed":
        """Push to ``owner/name`` on the Hugging Face Hub; see `solobox.hub.push.push` for its options and errors."""
        from solobox.hub.push import push

        return push(self, repository, **options)

    @classmethod
    def load(cls, folder: str | Path, *, backbone: nn.Module | None = None) -> "Localizer":
        """Read what `save` wrote; the localizer is ready to predict.

        backbone: the custom module that it was trained with, if any; its weights are loaded too.

        The folder may come from anybody: everything in it is checked before memory is taken for it, and one image is
        predicted.

        Raises ConfigError: ``model-missing``, ``model-damaged`` for what is incomplete, not finite, or does not fit
        together, ``model-outdated``, ``custom-backbone``, and those of `Architecture` and `Backbone`.
        """
        folder = Path(folder)
        config = saving.read_config(folder)
        architecture = saving.architecture(config, Architecture, folder)
        calibration = saving.calibration(config, folder)
        with torch.device("meta"):  # shapes without numbers: a few bytes of JSON can ask for gigabytes
            outline = cls(architecture, backbone=copy.deepcopy(backbone))
        saving.check_shapes(folder, outline, prefix=_FAMILIARITY)
        localizer = cls(architecture, backbone=backbone)
        arrays = saving.load_state(folder, localizer, prefix=_FAMILIARITY)
        localizer.familiarity = Familiarity.from_arrays(arrays)
        localizer.calibration = calibration
        localizer.metadata = {key: value for key, value in config.items() if key not in saving.RESERVED}
        localizer.fingerprints = Fingerprints.load(folder)
        localizer.eval()
        localizer._check_first_image(folder)
        return localizer

    def _check_first_image(self, folder: Path) -> None:
        """Predict a grey image. Raises ConfigError ``model-damaged`` where the result is not finite."""
        a = self.architecture
        side = a.strides[-1] if a.size == "native" else a.input_side
        fits = self.familiarity is None or len(self.familiarity.mean) == sum(self.backbone.channels)
        is_sound = fits and (self.presence is None or float(self.presence.temperature) > 0)
        if is_sound:
            with torch.inference_mode():
                raw = self.raw_output(self.locate(torch.full((1, 3, side, side), 127.0)))
            learned = [raw.boxes]
            learned += [raw.std] if a.head == "distribution" else []
            learned += [raw.presence] if self.has_presence else []
            learned += [raw.familiarity] if self.has_familiarity else []
            is_sound = all(bool(np.isfinite(each).all()) for each in learned)
        if not is_sound:
            raise ConfigError(
                f"{folder / saving.MODEL} is damaged: what it predicts is not finite; restore it, or train again",
                code="model-damaged",
            )


def raw_output(boxes: Tensor, std: Tensor, presence: Floats, familiarity: Floats) -> RawOutput:
    """Boxes and standard deviations (B, 4) as arrays. presence, familiarity: (B,) as in `Prediction`."""
    return RawOutput(
        in_order(boxes.double().cpu().numpy()), std.double().cpu().numpy(), presence, familiarity
    )


def run_head(
    extra: nn.Module,
    vectorizer: nn.Module,
    head: nn.Module,
    presence: nn.Module | None,
    maps: Sequence[Tensor],
) -> Output:
    """From feature maps to boxes, by these modules of a localizer."""
    output: Output = head(vectorizer(extra(maps)))
    return output if presence is None else output._replace(presence=presence(maps))


def pooled(maps: Sequence[Tensor]) -> np.ndarray:
    """The input of `familiarity`: means of all maps (B, C, h, w) over their cells, concatenated, (B, D) float32."""
    means = torch.cat([feature.float().mean(dim=(2, 3)) for feature in maps], dim=1)
    return np.asarray(means.cpu().numpy())
