"""The checks: what is wrong with labelled images, row by row, and the way to mend it.

`check` looks and changes nothing; `fix` writes a clean copy beside. Neither needs the model.
"""

from solobox.data.checks.checking import check
from solobox.data.checks.findings import CODES, Diagnosis, Finding, Remedy
from solobox.data.checks.fix import FixReport, fix

__all__ = ["CODES", "Diagnosis", "Finding", "FixReport", "Remedy", "check", "fix"]
