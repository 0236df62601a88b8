"""Where boxes go: a file of the kind that its name's ending says, with a row for every input."""

from solobox.inference.sinks.coco import ImageIds
from solobox.inference.sinks.columns import Columns, Margins
from solobox.inference.sinks.endings import ENDINGS, check_ending, write, writing
from solobox.inference.sinks.parts import Parts, Plan, fingerprint

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
