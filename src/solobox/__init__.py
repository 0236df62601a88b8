"""Solobox finds the one thing that matters in each image.

The public names; those that need the ``[train]`` extra are loaded at their first use, so that the rest works
without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError, ImageError, SoloboxError
from solobox.predict.prediction import Prediction

if TYPE_CHECKING:
    from solobox.config.architecture import Architecture
    from solobox.config.recipe import Recipe
    from solobox.evaluation.evaluate import evaluate
    from solobox.evaluation.report import write_report
    from solobox.model.localizer import Localizer
    from solobox.predict.onnx_model import OnnxModel
    from solobox.training.train import train

__all__ = [
    "Architecture",
    "ConfigError",
    "DataError",
    "Dataset",
    "ImageError",
    "Localizer",
    "OnnxModel",
    "Prediction",
    "Recipe",
    "SoloboxError",
    "evaluate",
    "train",
    "write_report",
]

_LATER = {
    "Architecture": "solobox.config.architecture",
    "Localizer": "solobox.model.localizer",
    "OnnxModel": "solobox.predict.onnx_model",
    "Recipe": "solobox.config.recipe",
    "evaluate": "solobox.evaluation.evaluate",
    "train": "solobox.training.train",
    "write_report": "solobox.evaluation.report",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
