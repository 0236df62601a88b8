"""Whether an exported file predicts what the trained localizer predicts; one that does not is not written.

The reference is `Localizer.predict`, with Pillow's resize and NumPy's margins: it shares no line with the exported
graph but the layers of the network. A prediction depends on its input without bound (a grey value that rounds the other
way in a resize moves a wide margin by pixels), so no tolerance on "the boxes of both" can be tight. Three checks
together cover the whole pipeline instead, and each is tight:

resize: both resize the same full-size image. The grey values of the two squares are compared.
network: the localizer predicts on the square that the graph itself made of the image, so that both networks look at
    equal pixels. Every output of the graph, in pixels of the full-size image, must agree with it.
files: `OnnxModel.predict` and `Localizer.predict` both read the encoded file. One of the files is a JPEG that is stored
    on its side and says so in its EXIF tag. Its reference is the upright pixels, so that a reader that ignores the tag
    fails even where both sides share it.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import torch
from PIL import Image

from solobox.boxes import Floats
from solobox.errors import ConfigError, ImageError
from solobox.export.graph import PLACES, SQUARES
from solobox.images.reading import ImageInput, decode
from solobox.model.localizer import Localizer
from solobox.predict.onnx_model import OnnxModel, OnnxRuntime, levels_of
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions, Predictor, RawOutput, finish
from solobox.uncertainty.conformal import Calibration
from solobox.utils.progress import NullProgress, Progress

MAX_SHARE = 1e-4
"""Largest difference of an edge or standard deviation, as a share of the image's side. See bench/LOG.md.

Of a margin too, but where its factor (`Calibration.factor`) is more than 1, in units of that factor: a difference of
the standard deviation is multiplied by it.
"""

MAX_PRESENCE = 1e-3
"""Largest difference of the probability of presence."""

MAX_FAMILIARITY = 0.005
"""Largest difference of familiarity, or one step where held-out images are so few that a step is more."""

MAX_LEVELS = 1.0
"""Largest difference of a grey value, of 255, after the resize: Pillow rounds after each of its two passes."""

MAX_UNEQUAL = 0.3
"""Largest share of the synthetic images' grey values that differ at all after the resize. See bench/LOG.md."""

SYNTHETIC_SIZES = (
    (64, 48), (97, 211), (160, 120), (224, 224), (320, 240), (333, 500), (480, 640), (500, 375), (641, 427),
    (768, 1024), (1280, 720), (1500, 90), (90, 1500), (2000, 1333),
)  # fmt: skip
"""Widths and heights of the synthetic images: small and large, wide and tall, odd and even."""

MARGINS = ("lower", "upper", "outer")

_LOST = 10
"""Of so many images of a localizer that refines, one may differ more when both predict it from its file.

Where an object is lost, nothing in the crop tells where its edges are, and grey values that are rounded another way
move them. `Parity.share` compares each look on its own, at the same place, and all images.
"""

Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences between the localizer and the exported file on `count` images, `real` of them read from files.

    share: the largest difference of any edge, margin or standard deviation, see `MAX_SHARE`; output: the graph's output
    with that difference. presence, familiarity: the largest differences of these. levels: the
    largest difference of a grey value after the resize; unequal: the mean share of a synthetic image's grey values
    that differ. files: as `share`, for boxes and margins predicted from encoded files; infinity where the sizes differ.
    familiarity_step: the smallest step between two values of familiarity.
    """

    count: int = 0
    real: int = 0
    share: float = 0.0
    output: str = "boxes"
    presence: float = 0.0
    familiarity: float = 0.0
    levels: float = 0.0
    unequal: float = 0.0
    files: float = 0.0
    familiarity_step: float = field(default=0.0, repr=False)

    def __str__(self) -> str:
        return (
            f"{self.count} images ({self.real} from files) by the run and by the exported file: edges at most "
            f"{100 * self.share:.4f}% of the side apart ({self.output}), presence {self.presence:.4f}, familiarity "
            f"{self.familiarity:.4f}; resized grey values at most {self.levels:.0f} of 255 apart, "
            f"{100 * self.unequal:.1f}% not equal; predicted from files at most {100 * self.files:.4f}% apart"
        )

    def failures(self) -> list[str]:
        """Names of the checks that fail: ``network``, ``resize``, ``files``. A NaN fails."""
        familiarity = max(MAX_FAMILIARITY, 1.01 * self.familiarity_step)
        network = (
            self.share <= MAX_SHARE and self.presence <= MAX_PRESENCE and self.familiarity <= familiarity
        )
        resize = self.levels <= MAX_LEVELS and self.unequal <= MAX_UNEQUAL
        passed = {"network": network, "resize": resize, "files": self.files <= MAX_SHARE}
        return [name for name, is_passed in passed.items() if not is_passed]


def synthetic_image(seed: int, size: tuple[int, int]) -> Pixels:
    """Smooth colours, hard edges and grain, (h, w, 3) uint8: no two channels, rows or corners are alike.

    size: width and height in pixels.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    colors = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    pixels = np.array(colors.resize(size, Image.Resampling.BICUBIC))
    for _ in range(10):
        (left, right), (top, bottom) = (np.sort(rng.integers(0, side + 1, 2)) for side in size)
        pixels[top:bottom, left:right] = rng.integers(0, 256, 3)
    grain = rng.integers(-20, 21, (height, width, 1))
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def synthetic_images() -> list[Pixels]:
    """One synthetic image of each of `SYNTHETIC_SIZES`."""
    return [synthetic_image(seed, size) for seed, size in enumerate(SYNTHETIC_SIZES)]


def compare(
    localizer: Localizer, file: Path, images: Sequence[ImageInput], *, progress: Progress | None = None
) -> Parity:
    """Run the three checks of this module on image files, and on the synthetic images.

    file: an exported ``.onnx`` file. images: files that cannot be read are left out.
    """
    progress = progress or NullProgress()
    engine = _load_with_inner(file)
    synthetic = synthetic_images()
    progress.start("comparing", 2 * len(images) + len(synthetic))
    difference = _Difference(localizer)
    readable = []
    for image in images:
        progress.advance()
        try:
            pixels = decode(image).pixels
        except ImageError:
            continue
        difference.add(pixels, engine)
        readable.append(image)
    unequal = []
    for pixels in synthetic:
        unequal.append(difference.add(pixels, engine))
        progress.advance()
    files = _files_apart(localizer, OnnxModel.load(file), readable)
    progress.advance(len(images))
    return Parity(
        count=len(readable) + len(unequal),
        real=len(readable),
        share=difference.share,
        output=difference.output,
        presence=difference.scores["presence"],
        familiarity=difference.scores["familiarity"],
        levels=difference.levels,
        unequal=float(np.mean(unequal)),
        files=files,
        familiarity_step=1 / (len(localizer.familiarity.distances) + 1) if localizer.familiarity else 0.0,
    )


def require_parity(parity: Parity) -> None:
    """Raise ConfigError where a check fails."""
    if failures := parity.failures():
        raise ConfigError(
            f"the exported file differs from the run ({', '.join(failures)}), so nothing was written: {parity}. At "
            f"most {100 * MAX_SHARE:g}% of the side and {MAX_LEVELS:g} of 255 are allowed. Please report this "
            "with the versions of torch and onnxruntime",
            code="export-differs",
        )


class _Difference:
    """The largest differences so far, of resize and network."""

    def __init__(self, localizer: Localizer) -> None:
        self._localizer = localizer
        self._factors = _factors(localizer.calibration)
        self.share, self.output = 0.0, "boxes"
        self.scores = {"presence": 0.0, "familiarity": 0.0}
        self.levels = 0.0

    def add(self, image: Pixels, engine: OnnxRuntime) -> float:
        """Compare one full-size image (h, w, 3). Gives the share of grey values of the squares that differ."""
        outputs = engine.run(np.ascontiguousarray(image[np.newaxis]), engine.outputs)
        square = outputs.pop(SQUARES)[0].transpose(1, 2, 0)  # (side, side, 3), whole numbers in float32
        apart = np.abs(self._localizer.preprocess(image).pixels - square)
        self.levels = _larger(self.levels, float(apart.max()))
        places = outputs.pop(PLACES, np.zeros((1, 0, 4), np.float32))
        prediction = self._predict(square.astype(np.uint8), places)
        height, width = image.shape[:2]
        expected = _expected_outputs(prediction, self._localizer, (width, height))
        compared = _same_category(
            self._localizer.calibration,
            (prediction.box, prediction.size),
            (outputs["boxes"][0], (width, height)),
        )
        for name, values in outputs.items():
            if name in MARGINS and not compared:
                continue
            if name in self.scores:
                self.scores[name] = _larger(self.scores[name], float(abs(values[0] - expected[name])))
                continue
            apart_of_side = np.abs(values[0] - expected[name]) / [width, height, width, height]
            self._note(name, float(np.max(apart_of_side / self._factors.get(name, np.ones(1)))))
        return float((apart > 0).mean())

    def _predict(self, square: Pixels, places: npt.NDArray[np.float32]) -> Prediction:
        """Predict a square; the second looks are at the same places (1, refinements, 4) as those of the graph."""
        there = tuple(torch.from_numpy(places).unbind(dim=1))

        def infer(pixels: Pixels) -> RawOutput:
            located = self._localizer.locate_fast(pixels, places=there)
            for mine, other in zip(located.places, there, strict=False):
                self._note(PLACES, float((mine - other).abs().max()))
            return self._localizer.raw_output(located)

        return self._localizer.predict_batch([square], infer=infer)[0]

    def _note(self, name: str, share: float) -> None:
        if np.isnan(share) or share > self.share:
            self.share, self.output = _larger(self.share, share), name


def _expected_outputs(
    prediction: Prediction, localizer: Localizer, size: tuple[int, int]
) -> dict[str, Floats]:
    """What `ExportGraph` gives for an image of this size where `prediction` is that of its square."""
    factors = np.tile(np.divide(size, prediction.size), 2)
    levels = levels_of(localizer.calibration)
    options = {
        False: [PredictOptions(margins=level) for level in levels],
        True: [PredictOptions(outer=level) for level in levels],
    }
    margins = {
        outer: [finish(prediction, localizer.calibration, each.level, each) for each in of_kind]
        for outer, of_kind in options.items()
    }
    return {
        "boxes": prediction.box * factors,
        "std": prediction.std * factors,
        "lower": np.array([each.lower * factors for each in margins[False]]),
        "upper": np.array([each.upper * factors for each in margins[False]]),
        "outer": np.array([each.outer * factors for each in margins[True]]),
        "presence": np.array(prediction.presence),
        "familiarity": np.array(prediction.familiarity),
    }


def _same_category(calibration: Calibration | None, *boxes: tuple[npt.ArrayLike, tuple[int, int]]) -> bool:
    """Whether boxes, each with the size of its image, are of one category of size: another one has other margins."""
    return calibration is None or len({int(calibration.category(*each)) for each in boxes}) == 1


def _factors(calibration: Calibration | None) -> dict[str, Floats]:
    """What differences of margins are divided by, (levels, 1): see `MAX_SHARE`."""
    if calibration is None:
        return {}
    levels = levels_of(calibration)
    both = np.array([[max(calibration.factors(level))] for level in levels])
    outer = np.array([[max(calibration.factors(level, outer=True))] for level in levels])
    return {name: np.maximum(1, each) for name, each in (("lower", both), ("upper", both), ("outer", outer))}


def _load_with_inner(file: Path) -> OnnxRuntime:
    """The exported graph with more outputs: the resized images, and the places that it looks at again, if any."""
    model = onnx.load(file)
    computed = {name for node in model.graph.node for name in node.output}
    for name in computed & {SQUARES, PLACES}:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return OnnxRuntime(model.SerializeToString(), 0)


def _files_apart(localizer: Localizer, model: OnnxModel, images: Sequence[ImageInput]) -> float:
    """Largest difference between predictions of both from encoded files, as a share of the side."""
    side = localizer.architecture.input_side
    calibration, level = localizer.calibration, localizer.level(PredictOptions())
    factor = 1.0 if calibration is None or level is None else max(1.0, *calibration.factors(level))
    upright, encoded = _rotated_jpeg((side * 3 // 2, side))
    both: list[Predictor] = [localizer, model]
    same = [_apart(each.predict(upright), each.predict(encoded), calibration, factor) for each in both]
    pairs = zip(localizer.predict([upright, *images]), model.predict([upright, *images]), strict=True)
    apart = sorted(_apart(*pair, calibration, factor) for pair in pairs)
    if localizer.architecture.refinements:
        apart = apart[: len(apart) - len(apart) // _LOST]
    return max(*same, *apart)


def _apart(expected: Prediction, actual: Prediction, calibration: Calibration | None, factor: float) -> float:
    if actual.error or expected.error or actual.size != expected.size:
        return math.inf
    sides = np.tile(expected.size, 2)
    fields = {"box": 1.0}
    if np.isfinite(expected.lower).all() and _same_category(
        calibration, (expected.box, expected.size), (actual.box, actual.size)
    ):
        fields |= {"lower": factor, "upper": factor}
    apart = [
        np.abs(getattr(actual, name) - getattr(expected, name)) / sides / each
        for name, each in fields.items()
    ]
    return float(np.max(apart)) if np.isfinite(apart).all() else math.inf


def _rotated_jpeg(size: tuple[int, int]) -> tuple[Pixels, bytes]:
    """Upright pixels of this width and height, and a JPEG that holds them on their side, orientation 6 in its EXIF."""
    # A camera held upright on its side: row 0 of the file is the right side of the image.
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(synthetic_image(0, size))))
    exif = Image.Exif()
    exif[0x0112] = 6
    with io.BytesIO() as buffer:
        stored.save(buffer, "JPEG", quality=95, exif=exif)
        encoded = buffer.getvalue()
    with Image.open(io.BytesIO(encoded)) as decoded:
        return np.ascontiguousarray(np.rot90(np.asarray(decoded.convert("RGB")), -1)), encoded


def _larger(most: float, value: float) -> float:
    """The larger of two numbers; a NaN wins."""
    return float(np.maximum(most, value))
