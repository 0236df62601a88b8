"""Export a trained localizer as an ONNX file that runs anywhere."""

from solobox.export.exporter import ExportResult, Target, export
from solobox.export.parity import Parity
from solobox.export.quantize import AccuracyChange

__all__ = ["AccuracyChange", "ExportResult", "Parity", "Target", "export"]
