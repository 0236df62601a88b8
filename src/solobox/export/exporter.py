"""Write a trained localizer as an ONNX file, compared with the localizer before it is written."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import onnx

from solobox.data.dataset import Dataset
from solobox.data.formats.writing import building
from solobox.errors import ConfigError
from solobox.export.graph import ExportGraph
from solobox.export.licences import license_text
from solobox.export.onnx_file import to_onnx, training_metadata, triton_config
from solobox.export.parity import Parity, compare, require_parity
from solobox.export.quantize import (
    AccuracyChange,
    quantize_measured,
    require_accuracy,
    to_float16_measured,
)
from solobox.export.web import runtime_files, site_files
from solobox.model.localizer import Localizer
from solobox.utils.atomic import followed, remove_leftovers, replacing_bytes
from solobox.utils.progress import Progress
from solobox.utils.sampling import evenly_spaced

Target: TypeAlias = Literal["onnx", "triton", "web"]

_LICENSE = "LICENSE.txt"

_MAX_CHECKED = 64
"""Images of `check` that the two are compared on, at their full size."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and how it compares with the localizer.

    bytes: of the file, or of all files of the folder. accuracy: with int8 or float16.
    """

    path: Path
    bytes: int
    outputs: tuple[str, ...]
    parity: Parity
    accuracy: AccuracyChange | None = None


def export(
    localizer: Localizer,
    path: str | Path,
    *,
    check: Dataset | None = None,
    int8: bool = False,
    float16: bool = False,
    max_loss: float = 0.01,
    target: Target = "onnx",
    web_runtime: Path | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Write a localizer as one ONNX file, as a model in a Triton model repository, or as a page (`target`).

    path: the file; for Triton the folder ``repository/name`` of the model in the repository; for the web a new folder,
    which any web server can serve: a page where the browser runs the model.

    The graph takes raw upright pixels (N, H, W, 3) uint8 of any size and gives boxes in these pixels, see
    `ExportGraph`. Before anything is written it is compared with the localizer, see `parity`: on images of `check`, or
    on training images that the run recorded and that still exist; always on synthetic ones too.

    check: labelled images. int8: convolutions in 8-bit integers, calibrated on some images of `check` and measured on
    the others. float16: weights in 16-bit floats, measured on `check`. Both are refused where the mean IoU falls by
    more than `max_loss`. web_runtime: for a page, see `runtime_files`.

    Raises ConfigError: ``path-invalid``, ``runtime-unavailable``, ``runtime-differs``, ``options-conflict``,
    ``int8-needs-images``, ``float16-needs-images``, ``images-unreadable``, ``export-differs`` where the two disagree,
    ``int8-accuracy`` and ``float16-accuracy`` where the mean IoU falls too far. DataError for a path that cannot be
    written. Nothing is written then.
    """
    path = Path(path)
    _check_path(path, target)
    if int8 and float16:
        raise ConfigError("give either --int8 or --float16, not both", code="options-conflict")
    if (int8 or float16) and check is None:
        kind, how = ("int8", "calibrated and measured") if int8 else ("float16", "measured")
        raise ConfigError(
            f"{kind} is {how} on labelled images: name them with --check DATA", code=f"{kind}-needs-images"
        )
    runtime = runtime_files(web_runtime) if target == "web" else {}
    graph = ExportGraph(localizer)
    model = to_onnx(graph, training_metadata(localizer))
    images = (
        _recorded_images(localizer)
        if check is None
        else check.select(evenly_spaced(len(check), _MAX_CHECKED)).images
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        onnx.save(model, file)
        parity = compare(localizer, file, images, progress=progress)
        if check is not None and not parity.real:
            raise ConfigError("none of the images of --check can be read", code="images-unreadable")
        require_parity(parity)
        accuracy = None
        if int8 and check is not None:
            model, accuracy = quantize_measured(localizer, model, file, check, progress=progress)
            require_accuracy(accuracy, max_loss, "int8")
        elif float16 and check is not None:
            model, accuracy = to_float16_measured(model, file, check, progress=progress)
            require_accuracy(accuracy, max_loss, "float16")
    return ExportResult(
        path,
        _write(_files(localizer, model, path, target, runtime), path, target),
        graph.outputs,
        parity,
        accuracy,
    )


def _check_path(path: Path, target: Target) -> None:
    if target == "onnx":
        if path.suffix.lower() != ".onnx":
            raise _invalid_path(f"{path}: an exported model is a file whose name ends with .onnx")
        if path.is_dir():
            raise _invalid_path(f"{path} is a folder: name a file")
    elif path.suffix or (path.exists() and not path.is_dir()):
        folder = "repository/name" if target == "triton" else "such as site/"
        raise _invalid_path(f"{path}: for {target} name a folder, {folder}")
    elif path.exists() and any(path.iterdir()):
        raise _invalid_path(f"{path} is not empty: name a new folder")


def _invalid_path(text: str) -> ConfigError:
    return ConfigError(text, code="path-invalid")


def _files(
    localizer: Localizer, model: onnx.ModelProto, path: Path, target: Target, runtime: Mapping[str, bytes]
) -> dict[str, bytes]:
    """What is written, by the paths in the folder; the file alone has no name."""
    if target == "onnx":
        return {"": model.SerializeToString()}
    if target == "web":
        return site_files(model, runtime) | {_LICENSE: license_text(localizer, web=True).encode()}
    return {
        "1/model.onnx": model.SerializeToString(),
        "config.pbtxt": triton_config(model, followed(path).name).encode(),
        _LICENSE: license_text(localizer).encode(),
    }


def _write(files: Mapping[str, bytes], path: Path, target: Target) -> int:
    """Write a file, or a folder that appears whole. Gives the bytes."""
    path = followed(path)
    remove_leftovers(path)
    if target == "onnx":
        with replacing_bytes(path) as file:
            file.write(files[""])
    else:
        with building(path) as folder:
            for name, content in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(content)
    return sum(map(len, files.values()))


def _recorded_images(localizer: Localizer) -> list[Path]:
    """Training images that the run recorded, see `train`."""
    recorded = localizer.metadata.get("sample_images")
    if not isinstance(recorded, list):
        return []
    # The model may come from anybody: to look for a file on another machine would sign in there.
    return [Path(str(path)) for path in recorded if not str(path).startswith(("//", "\\\\"))]
