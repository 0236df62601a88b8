"""A trained localizer as a file for everywhere: ONNX, whole and checked."""

from solobox.export.exporter import Accuracy, Exported, Target, export
from solobox.export.parity import Parity

__all__ = ["Accuracy", "Exported", "Parity", "Target", "export"]
