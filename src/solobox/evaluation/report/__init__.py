"""The report: one self-contained HTML page that shows how good the boxes are, and where and how they fail."""

from solobox.evaluation.report.metadata import RunMetadata
from solobox.evaluation.report.page import write_report

__all__ = ["RunMetadata", "write_report"]
