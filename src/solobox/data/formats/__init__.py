"""Annotation formats: one module each, with the same function `read`, and `write` where it is written too.

`formats.read` detects the format; `formats.write` takes its name. `detect.read` lists the codes of their errors.
"""

from solobox.data.formats.detect import FOLDERS, FORMATS, WRITERS, Format, WritableFormat, files, read, write
from solobox.data.formats.records import SPLITS, Annotations, Record

__all__ = [
    "FOLDERS",
    "FORMATS",
    "SPLITS",
    "WRITERS",
    "Annotations",
    "Format",
    "Record",
    "WritableFormat",
    "files",
    "read",
    "write",
]
