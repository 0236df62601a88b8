"""The checks: what is wrong with labelled images, row by row, and how to fix it.

`check` reads and changes nothing; `fix` writes a clean copy. Neither needs the model.
"""

from solobox.data.checks.checking import CheckLevel, check, in_pixels
from solobox.data.checks.diagnosis import CODES, Diagnosis, Finding, Fix
from solobox.data.checks.fix import FixReport, fix, left_out_path

__all__ = [
    "CODES",
    "CheckLevel",
    "Diagnosis",
    "Finding",
    "Fix",
    "FixReport",
    "check",
    "fix",
    "in_pixels",
    "left_out_path",
]
