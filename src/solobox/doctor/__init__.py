"""The doctor: what is wrong with labelled pictures, row by row, and the way to mend it.

`check` looks and changes nothing; `fix` writes a clean copy beside. Neither needs the model.
"""

from solobox.doctor.diagnosing import check
from solobox.doctor.findings import CODES, Diagnosis, Finding, Remedy
from solobox.doctor.mending import FixReport, fix

__all__ = ["CODES", "Diagnosis", "Finding", "FixReport", "Remedy", "check", "fix"]
