"""Solobox finds the one object that matters in each image.

These are the public names. Each is loaded at its first use: `import solobox` is quick, and what needs no torch works
without the ``[train]`` extra.
"""

import importlib
from typing import TYPE_CHECKING, Any

from solobox.errors import ConfigError, DataError, ImageError, Paused, SoloboxError

if TYPE_CHECKING:
    __version__: str
    from solobox.api import annotate, audit, check, draw, learning_curve, load
    from solobox.config.architecture import Architecture
    from solobox.config.recipe import Recipe
    from solobox.data.checks import Diagnosis
    from solobox.data.dataset import Dataset
    from solobox.data.sample import Sample
    from solobox.evaluation.evaluate import evaluate
    from solobox.evaluation.report import write_report
    from solobox.model.localizer import Localizer
    from solobox.predict.onnx_model import OnnxModel
    from solobox.predict.prediction import Prediction
    from solobox.predict.predictor import PredictOptions
    from solobox.training.self_training import self_train
    from solobox.training.train import train

__all__ = [
    "Architecture",
    "ConfigError",
    "DataError",
    "Dataset",
    "Diagnosis",
    "ImageError",
    "Localizer",
    "OnnxModel",
    "Paused",
    "PredictOptions",
    "Prediction",
    "Recipe",
    "Sample",
    "SoloboxError",
    "annotate",
    "audit",
    "check",
    "draw",
    "evaluate",
    "learning_curve",
    "load",
    "self_train",
    "train",
    "write_report",
]

_MODULES = {
    "Architecture": "solobox.config.architecture",
    "Dataset": "solobox.data.dataset",
    "Diagnosis": "solobox.data.checks",
    "Localizer": "solobox.model.localizer",
    "OnnxModel": "solobox.predict.onnx_model",
    "PredictOptions": "solobox.predict.predictor",
    "Prediction": "solobox.predict.prediction",
    "Recipe": "solobox.config.recipe",
    "Sample": "solobox.data.sample",
    "annotate": "solobox.api",
    "audit": "solobox.api",
    "check": "solobox.api",
    "draw": "solobox.api",
    "evaluate": "solobox.evaluation.evaluate",
    "learning_curve": "solobox.api",
    "load": "solobox.api",
    "self_train": "solobox.training.self_training",
    "train": "solobox.training.train",
    "write_report": "solobox.evaluation.report",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("solobox")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
