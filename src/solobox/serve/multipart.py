"""The images of a multipart body."""

from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from solobox.serve.errors import Problem


@dataclass(frozen=True, slots=True)
class Part:
    """One part: the name of its file, or of its field where it has none, and its bytes."""

    name: str
    content: bytes


class _Parts:
    """Collects what the parser finds."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found: list[Part] = []
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value, self._content = bytearray(), bytearray(), bytearray()

    def begin(self) -> None:
        if len(self.found) >= self.limit:
            raise Problem(
                413,
                "too_many_images",
                f"the body has more than {self.limit} parts",
                f"Send up to {self.limit} images in one request.",
            )
        self._headers, self._content = {}, bytearray()

    def field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def content(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"filename") or options.get(b"name") or b""
        self.found.append(Part(name.decode("utf-8", "replace")[:255], bytes(self._content)))


def split(body: bytes, content_type: str, limit: int) -> list[Part]:
    """The parts of a ``multipart/form-data`` body, in order. Names are only ever repeated in the answer.

    Raises Problem where there are none, more than `limit`, or the body is no such thing.
    """
    parts = _Parts(limit)
    _, options = parse_options_header(content_type)
    finished = []
    try:
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.field,
                "on_header_value": parts.value,
                "on_header_end": parts.header_end,
                "on_part_data": parts.content,
                "on_part_end": parts.end,
                "on_end": lambda: finished.append(True),
            },
        )
        parser.write(body)
        parser.finalize()
    except KeyError:
        raise _broken("the Content-Type names no boundary") from None
    except FormParserError as error:
        raise _broken(f"the multipart body is broken: {error}") from None
    if not finished:
        raise _broken("the multipart body is broken: its end is missing")
    if not parts.found:
        raise _broken("the multipart body holds no image")
    return parts.found


def _broken(message: str) -> Problem:
    return Problem(422, "wrong_multipart", message, "Send it as curl does: curl -F file=@photo.jpg URL")
