"""Convolutions in 8-bit integers, calibrated on labelled images and measured on others."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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

_CALIBRATION_IMAGES = 128


@dataclass(frozen=True, slots=True)
class Int8Accuracy:
    """Before and after quantization, on `count` images that it was not calibrated on.

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
) -> tuple[onnx.ModelProto, Int8Accuracy]:
    """Quantize `model`, which lies at `file` too, and measure what that costs.

    dataset: labelled images: training images of the localizer calibrate, the others measure.

    Raises ConfigError: ``int8-needs-images`` where there are too few of either.
    """
    progress = progress or NullProgress()
    calibration, test = _split(localizer, dataset)
    progress.say(f"quantizing: calibrated on {len(calibration)} images, measured on {len(test)}")
    quantized = quantize(model, _preprocessed(localizer, calibration))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        onnx.save(quantized, path)
        return quantized, _measure(OnnxModel.load(file), OnnxModel.load(path), test, progress)


def require_accuracy(accuracy: Int8Accuracy, max_loss: float) -> None:
    """Raise ConfigError, ``int8-accuracy``, where the mean IoU falls by more than `max_loss`."""
    before, after = accuracy.iou
    if not before - after <= max_loss:
        raise ConfigError(
            f"int8 lowers the mean IoU from {before:.4f} to {after:.4f} on {accuracy.count} images, by more than "
            f"{max_loss:g}, so nothing was written. Export without --int8, or accept it with --max-loss "
            f"{np.ceil((before - after) * 100) / 100:g}",
            code="int8-accuracy",
        )


def evenly_spaced(dataset: Dataset, count: int) -> Dataset:
    """At most `count` rows, evenly spaced."""
    chosen = np.zeros(len(dataset), dtype=np.bool_)
    chosen[np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)] = True
    return dataset.select(chosen)


def _split(localizer: Localizer, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Images to calibrate on, training images where the model knows them, and others with a box to measure on."""
    trained = np.zeros(len(dataset), dtype=np.bool_)
    if localizer.fingerprints is not None:
        trained = localizer.fingerprints.splits(dataset.images) == "train"
    if not trained.any() or trained.all():
        trained = np.arange(len(dataset)) % 2 == 0
    test = dataset.select(~trained & dataset.has_box)
    if not len(test):
        raise ConfigError(
            "--check has too few labelled images to measure int8 on: give two or more",
            code="int8-needs-images",
        )
    return evenly_spaced(dataset.select(trained), _CALIBRATION_IMAGES), test


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


def _measure(before: OnnxModel, after: OnnxModel, dataset: Dataset, progress: Progress) -> Int8Accuracy:
    progress.start("measuring", 2 * len(dataset))

    def evaluate(model: OnnxModel) -> Evaluation:
        predictions = []
        for prediction in model.stream(dataset.images):
            predictions.append(prediction)
            progress.advance()
        return evaluate_predictions(dataset, predictions, "check")

    first, second = evaluate(before), evaluate(after)
    covered = [each.coverage.share if each.coverage else math.nan for each in (first, second)]
    return Int8Accuracy(
        len(dataset), (first.metrics.mean_iou, second.metrics.mean_iou), (covered[0], covered[1])
    )
