"""Exported models as workers load them, and what rows of theirs can say."""

import tempfile
from pathlib import Path

from solobox.errors import ConfigError
from solobox.predict.onnx_model import Model
from solobox.predict.predictor import check_presence, level_of
from solobox.predict.writers import Columns, Margins
from solobox.ray.plan import Settings
from solobox.ray.stores import located, reading


def read_model(model: str) -> bytes:
    """The bytes of an exported model's file in any store. Raises ConfigError for a folder, DataError as `reading`."""
    store, path = located(model)
    with reading(model):
        is_folder = store.isdir(path)
    if is_folder:
        raise ConfigError(f"{model} is a folder: give a model that `solobox export` made, an .onnx file")
    with reading(model):
        return bytes(store.cat_file(path))


def load(model: bytes) -> Model:
    """A model of one thread: there is a worker for each processor. Raises ConfigError for a file that is none."""
    with tempfile.TemporaryDirectory(prefix="solobox-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        return Model.load(path, threads=1)


def columns_of(model: Model, settings: Settings) -> Columns:
    """What rows say. Raises ConfigError for settings that the model cannot fulfil."""
    if settings.level is not None:
        level_of(model.calibration, settings.level, outer=settings.outer)  # or it says why there is none
    if settings.min_presence is not None and not 0 <= settings.min_presence <= 1:
        raise ConfigError(f"a presence is a probability from 0 to 1, not {settings.min_presence:g}")
    check_presence(settings.min_presence, learned=model.has_presence)
    margins: Margins = "none" if settings.level is None else "outer" if settings.outer else "both"
    return Columns(margins, presence=model.has_presence, familiarity=model.has_familiarity)
