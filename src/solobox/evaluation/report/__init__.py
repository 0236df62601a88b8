"""The report: one self-contained page that says how good the boxes are, and where and how they fail."""

from solobox.evaluation.report.page import write_report
from solobox.evaluation.report.statistics import RunFacts

__all__ = ["RunFacts", "write_report"]
