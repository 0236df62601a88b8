"""From a trained localizer to a file that others can use, checked before it is written."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from solobox.data.dataset import Dataset
from solobox.data.formats.writing import building
from solobox.errors import ConfigError, ImageError
from solobox.evaluation.metrics import evaluate_predictions
from solobox.export.graph import Graph
from solobox.export.onnx_file import as_onnx, facts_of
from solobox.export.parity import Parity, compare, require
from solobox.export.quantize import quantized
from solobox.export.triton import config
from solobox.model.localizer import Localizer
from solobox.predict.onnx_model import OnnxModel
from solobox.predict.predictor import resize_to_square
from solobox.utils.atomic import remove_leftovers, replacing_bytes

Target: TypeAlias = Literal["onnx", "triton"]

_MAX_CHECKED = 64
"""Images of `check` that the two are compared on, at their full size."""

_CALIBRATED_ON = 128


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Before and after quantisation, on `count` images that it was not calibrated on.

    iou: mean IoU. coverage: the share of true boxes within the margins at 0.9, NaN without margins.
    """

    count: int
    iou: tuple[float, float]
    coverage: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what was found before that. accuracy: of int8 alone."""

    path: Path
    bytes: int
    outputs: tuple[str, ...]
    parity: Parity
    accuracy: Accuracy | None = None


def export(
    localizer: Localizer,
    path: str | Path,
    *,
    check: Dataset | None = None,
    int8: bool = False,
    max_loss: float = 0.01,
    target: Target = "onnx",
) -> Exported:
    """Write a localizer as one ONNX file, or as a model in a repository of Triton's (`target`).

    path: the file, or the model's folder, which is called like the model: ``repository/name``.

    The graph takes raw upright pixels (N, H, W, 3) uint8 of any size and gives boxes in their pixels, see `Graph`.
    Before anything is written it is compared with the localizer, see `parity`: on images of `check`, or on training
    images that the run recorded and that are still there; in any case on synthetic ones too.

    check: labelled images. int8: convolutions in 8-bit integers, calibrated on a part of `check` and measured on
    another part; refused where the mean IoU falls by more than `max_loss`.

    Raises ConfigError where the two disagree, or where the accuracy falls too far; DataError for a path that cannot
    be written. Nothing is written then.
    """
    path = Path(path)
    _check_path(path, target)
    if int8 and check is None:
        raise ConfigError("int8 is calibrated and measured on images: name labelled ones with --check DATA")
    graph = Graph(localizer)
    model = as_onnx(graph, facts_of(localizer))
    images = _recorded_images(localizer) if check is None else _evenly(check, _MAX_CHECKED).images
    with tempfile.TemporaryDirectory() as folder:
        floats = Path(folder) / "float.onnx"
        onnx.save(model, floats)
        parity = compare(localizer, floats, images)
        if check is not None and not parity.real:
            raise ConfigError("none of the images of --check can be read")
        require(parity)
        accuracy = None
        if int8 and check is not None:
            calibrating, measuring = _halves(localizer, check)
            squares = _squares(calibrating, graph.side)
            model = quantized(model, squares)
            integers = Path(folder) / "int8.onnx"
            onnx.save(model, integers)
            accuracy = _accuracy(OnnxModel.load(floats), OnnxModel.load(integers), measuring)
            lost = accuracy.iou[0] - accuracy.iou[1]
            if not lost <= max_loss:
                raise ConfigError(
                    f"int8 lowers the mean IoU from {accuracy.iou[0]:.4f} to {accuracy.iou[1]:.4f} on "
                    f"{accuracy.count} images, by more than {max_loss:g}, so nothing was written. Export without "
                    f"--int8, or accept it with --max-loss {np.ceil(lost * 100) / 100:g}"
                )
        written = _write(model, path, target)
    return Exported(path, written, graph.outputs, parity, accuracy)


def _check_path(path: Path, target: Target) -> None:
    if target == "onnx":
        if path.suffix.lower() != ".onnx":
            raise ConfigError(f"{path}: an exported model is one file whose name ends with .onnx")
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: name a file")
    elif path.suffix or (path.exists() and not path.is_dir()):
        raise ConfigError(
            f"{path}: for Triton name a folder, repository/name, which is called like the model"
        )
    elif path.exists() and any(path.iterdir()):
        raise ConfigError(f"{path} holds something already: name a new folder")


def _write(model: onnx.ModelProto, path: Path, target: Target) -> int:
    content = model.SerializeToString()
    remove_leftovers(path)
    if target == "onnx":
        with replacing_bytes(path) as file:
            file.write(content)
    else:
        with building(path) as folder:
            (folder / "1").mkdir()
            (folder / "1" / "model.onnx").write_bytes(content)
            (folder / "config.pbtxt").write_text(config(model, path.name), encoding="utf-8")
    return len(content)


def _evenly(dataset: Dataset, most: int) -> Dataset:
    chosen = np.zeros(len(dataset), dtype=np.bool_)
    chosen[np.linspace(0, len(dataset) - 1, min(most, len(dataset))).round().astype(int)] = True
    return dataset.select(chosen)


def _recorded_images(localizer: Localizer) -> list[Path]:
    """Training images that the run recorded, see `train`; none for a run that recorded none."""
    recorded = localizer.metadata.get("sample_images")
    return [Path(str(path)) for path in recorded] if isinstance(recorded, list) else []


def _halves(localizer: Localizer, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """What to calibrate on, training images where the model knows them, and what to measure on: others with a box."""
    seen = localizer.fingerprints
    trained = np.zeros(len(dataset), dtype=np.bool_)
    if seen is not None:
        trained = seen.splits(dataset.images) == "train"
    if not trained.any() or trained.all():
        trained = np.arange(len(dataset)) % 2 == 0
    measuring = dataset.select(~trained & dataset.has_box)
    if not len(measuring):
        raise ConfigError("--check names too few labelled images to measure int8 on: give two or more")
    return _evenly(dataset.select(trained), _CALIBRATED_ON), measuring


def _squares(dataset: Dataset, side: int) -> Sequence[npt.NDArray[np.uint8]]:
    found = []
    for image in dataset.images:
        try:
            found.append(resize_to_square(image, side).pixels)
        except ImageError:
            continue
    if not found:
        raise ConfigError("none of the images that int8 was to be calibrated on can be read")
    return found


def _accuracy(floats: OnnxModel, integers: OnnxModel, dataset: Dataset) -> Accuracy:
    before, after = (
        evaluate_predictions(dataset, list(model.stream(dataset.images)), "check")
        for model in (floats, integers)
    )
    covered = [own.coverage.share if own.coverage else math.nan for own in (before, after)]
    return Accuracy(len(dataset), (before.metrics.mean_iou, after.metrics.mean_iou), (covered[0], covered[1]))
