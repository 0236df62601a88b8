"""Smaller files: convolutions in 8-bit integers, or weights in 16-bit floats; measured on labelled images."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, ImageError
from solobox.evaluation.metrics import Evaluation, evaluate_predictions
from solobox.export.onnx_file import quiet_loggers
from solobox.model.localizer import Localizer
from solobox.predict.onnx_model import PIXELS, OnnxModel
from solobox.predict.predictor import Pixels, Predictor
from solobox.utils.progress import NullProgress, Progress
from solobox.utils.sampling import evenly_spaced

_CALIBRATION_IMAGES = 128
_MIN_WEIGHTS = 1024
"""Smaller tensors stay as they are: constants of the graph, biases, what margins and familiarity are made from."""


@dataclass(frozen=True, slots=True)
class AccuracyChange:
    """Before and after, on `count` labelled images; with int8 on such that it was not calibrated on.

    iou: mean IoU. coverage: share of true boxes within the margins at 0.9, NaN without margins.
    """

    count: int
    iou: tuple[float, float]
    coverage: tuple[float, float]


def quantize(model: onnx.ModelProto, images: Sequence[Pixels]) -> onnx.ModelProto:
    """Static quantization: convolutions in int8 (weights by channel, activations by tensor).

    images: (S, S, 3) uint8 RGB, from which the ranges of the activations are taken: a hundred suffice. The layers after
    the convolutions, and so the box itself, stay float32.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class ImageReader(CalibrationDataReader):  # type: ignore[misc]
        """Gives the images one at a time."""

        def __init__(self) -> None:
            self._images: Iterator[Pixels] = iter(images)

        def get_next(self) -> dict[str, Pixels] | None:
            """The next image, None after the last."""
            image = next(self._images, None)
            return None if image is None else {PIXELS: image[np.newaxis]}

    with tempfile.TemporaryDirectory() as folder, quiet_loggers(""):
        source, prepared, quantized = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        onnx.save(model, source)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            ImageReader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            # Without VNNI, sums of two products of 8 bits overflow 16 bits; of 7 bits they do not.
            weight_type=QuantType.QInt8,
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(quantized)


def quantize_measured(
    localizer: Localizer,
    model: onnx.ModelProto,
    file: Path,
    dataset: Dataset,
    *,
    progress: Progress | None = None,
) -> tuple[onnx.ModelProto, AccuracyChange]:
    """Quantize `model`, which lies at `file` too, and measure what that costs.

    dataset: labelled images: training images of the localizer calibrate, the others measure.

    Raises ConfigError: ``int8-needs-images`` where there are too few of either.
    """
    progress = progress or NullProgress()
    calibration, test = _split(localizer, dataset)
    progress.say(f"quantizing: calibrated on {len(calibration)} images, measured on {len(test)}")
    quantized = quantize(model, _preprocessed(localizer, calibration))
    return quantized, _measure(file, quantized, test, progress)


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the weights as float16: half the bytes. Everything is computed in float32, as before.

    Runtimes convert the weights once, when they load the file, so that no time is lost and no processor needs float16.
    """
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    casts = []
    for tensor in smaller.graph.initializer:
        weights = onnx.numpy_helper.to_array(tensor)
        if weights.dtype == np.float32 and weights.size >= _MIN_WEIGHTS:
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights.astype(np.float16), f"{name}_float16"))
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *smaller.graph.node]
    del smaller.graph.node[:]
    smaller.graph.node.extend(nodes)
    onnx.checker.check_model(smaller)
    return smaller


def to_float16_measured(
    model: onnx.ModelProto, file: Path, dataset: Dataset, *, progress: Progress | None = None
) -> tuple[onnx.ModelProto, AccuracyChange]:
    """`to_float16` of `model`, which lies at `file` too, and what that costs on a dataset.

    Raises ConfigError: ``float16-needs-images`` where it has no boxes.
    """
    test = dataset.select(dataset.has_box & ~dataset.is_predicted)
    if not len(test):
        raise ConfigError("--check has no boxes to measure float16 on", code="float16-needs-images")
    smaller = to_float16(model)
    return smaller, _measure(file, smaller, test, progress or NullProgress())


def require_accuracy(accuracy: AccuracyChange, max_loss: float, kind: Literal["int8", "float16"]) -> None:
    """Raise ConfigError where the mean IoU falls by more than `max_loss`: ``int8-accuracy``, ``float16-accuracy``."""
    before, after = accuracy.iou
    if not before - after <= max_loss:
        raise ConfigError(
            f"{kind} lowers the mean IoU from {before:.4f} to {after:.4f} on {accuracy.count} images, by more than "
            f"{max_loss:g}, so nothing was written. Export without --{kind}, or accept it with --max-loss "
            f"{np.ceil((before - after) * 100) / 100:g}",
            code=f"{kind}-accuracy",
        )


def _split(localizer: Localizer, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Images to calibrate on, training images where the model knows them, and others with a box to measure on."""
    trained = np.zeros(len(dataset), dtype=np.bool_)
    if localizer.fingerprints is not None:
        trained = localizer.fingerprints.splits(dataset.images) == "train"
    if not trained.any() or trained.all():
        trained = np.arange(len(dataset)) % 2 == 0
    test = dataset.select(~trained & dataset.has_box & ~dataset.is_predicted)
    if not len(test):
        raise ConfigError(
            "--check has too few labelled images to measure int8 on: give two or more",
            code="int8-needs-images",
        )
    rows = np.flatnonzero(trained)
    return dataset.select(rows[evenly_spaced(len(rows), _CALIBRATION_IMAGES)]), test


def _preprocessed(predictor: Predictor, dataset: Dataset) -> list[Pixels]:
    images = []
    for image in dataset.images:
        try:
            images.append(predictor.preprocess(image).pixels)
        except ImageError:
            continue
    if not images:
        raise ConfigError("none of the images to calibrate int8 on can be read", code="int8-needs-images")
    return images


def _measure(file: Path, changed: onnx.ModelProto, dataset: Dataset, progress: Progress) -> AccuracyChange:
    progress.start("measuring", 2 * len(dataset))

    def evaluate(path: Path) -> Evaluation:
        predictions = []
        for prediction in OnnxModel.load(path).stream(dataset.images):
            predictions.append(prediction)
            progress.advance()
        return evaluate_predictions(dataset, predictions, "check")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.onnx"
        onnx.save(changed, path)
        first, second = evaluate(file), evaluate(path)
    covered = [each.coverage.share if each.coverage else math.nan for each in (first, second)]
    return AccuracyChange(
        len(dataset), (first.metrics.mean_iou, second.metrics.mean_iou), (covered[0], covered[1])
    )
