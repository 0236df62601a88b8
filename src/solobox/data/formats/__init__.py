"""Annotation formats: one module each, with the same two verbs, `read` and `write`.

`formats.read` finds the format out by looking; `formats.write` takes its name.
"""

from solobox.data.formats.detect import FORMATS, Format, read, write
from solobox.data.formats.records import SPLITS, Annotations, Record

__all__ = ["FORMATS", "SPLITS", "Annotations", "Format", "Record", "read", "write"]
