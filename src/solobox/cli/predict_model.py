"""The model of `solobox predict`: what `solobox train` left, or what `solobox export` wrote."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from solobox.cli.console import quieten
from solobox.errors import ConfigError
from solobox.predict.onnx_runtimes import RuntimeName
from solobox.predict.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Predictor:
    """What is asked of either.

    stream: as `solobox.Localizer.stream`. presence, familiarity: whether it has these. fingerprint: another one for
    any other model.
    """

    stream: Callable[..., Iterator[Prediction]]
    presence: bool
    familiarity: bool
    fingerprint: str


def load(path: Path, runtime: RuntimeName = "onnxruntime") -> Predictor:
    """The model in a folder, or in an ``.onnx`` file, which needs no PyTorch. Raises ConfigError for anything else.

    runtime: of an ``.onnx`` file.
    """
    if path.suffix.lower() == ".onnx" or path.is_file():
        from solobox.predict.onnx_model import Model

        model = Model.load(path, runtime=runtime)
        return Predictor(model.stream, model.has_presence, model.has_familiarity, _fingerprint([path]))
    if runtime != "onnxruntime":
        raise ConfigError(
            f"--runtime {runtime} runs an exported model: `solobox export {path} -o model.onnx` first"
        )
    quieten()
    from solobox.model import saving
    from solobox.model.localizer import Localizer

    one = Localizer.load(path)
    files = [path / saving.CONFIG, path / saving.MODEL]
    return Predictor(one.stream, one.has_presence, one.has_familiarity, _fingerprint(files))


def _fingerprint(files: list[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    return found.hexdigest()
