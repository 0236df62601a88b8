"""Solobox finds the one thing that matters in each picture.

The public names; those that need the ``[train]`` extra are loaded at their first use, so that the rest works
without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from solobox.errors import ConfigError, DataError, PictureError, SoloboxError
from solobox.prediction import Prediction
from solobox.samples import Samples

if TYPE_CHECKING:
    from solobox.evaluation.evaluate import evaluate
    from solobox.evaluation.report import write_report
    from solobox.exporting import export
    from solobox.inference.model import Model
    from solobox.localizer.architecture import Architecture
    from solobox.localizer.localizer import Localizer
    from solobox.training.recipe import Recipe
    from solobox.training.train import train

__all__ = [
    "Architecture",
    "ConfigError",
    "DataError",
    "Localizer",
    "Model",
    "PictureError",
    "Prediction",
    "Recipe",
    "Samples",
    "SoloboxError",
    "evaluate",
    "export",
    "train",
    "write_report",
]

_LATER = {
    "Architecture": "solobox.localizer.architecture",
    "Localizer": "solobox.localizer.localizer",
    "Model": "solobox.inference.model",
    "Recipe": "solobox.training.recipe",
    "evaluate": "solobox.evaluation.evaluate",
    "export": "solobox.exporting",
    "train": "solobox.training.train",
    "write_report": "solobox.evaluation.report",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
