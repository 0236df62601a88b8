"""Annotation formats: one module each, with the same functions `read` and `write`.

`formats.read` detects the format; `formats.write` takes its name. `detect.read` lists the codes of their errors.
"""

from solobox.data.formats.detect import FORMATS, Format, files, read, write
from solobox.data.formats.records import SPLITS, Annotations, Record

__all__ = ["FORMATS", "SPLITS", "Annotations", "Format", "Record", "files", "read", "write"]
