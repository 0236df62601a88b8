"""Where boxes go: a file of the kind that its name's ending says, with a row for every input."""

from solobox.predict.writers.coco import ImageIds
from solobox.predict.writers.columns import Columns, Margins
from solobox.predict.writers.files import ENDINGS, check_ending, write, writing
from solobox.predict.writers.resume import Parts, Plan, fingerprint

__all__ = [
    "ENDINGS",
    "Columns",
    "ImageIds",
    "Margins",
    "Parts",
    "Plan",
    "check_ending",
    "fingerprint",
    "write",
    "writing",
]
