"""A trained localizer as a file for everywhere: ONNX, whole and checked."""

from solobox.exporting.exporting import Accuracy, Exported, Target, export
from solobox.exporting.parity import Parity

__all__ = ["Accuracy", "Exported", "Parity", "Target", "export"]
