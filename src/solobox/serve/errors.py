"""What is wrong with a request, in one shape: code, message, what to do."""

import json
from collections.abc import Mapping

from solobox.errors import ImageError

_OF_IMAGES = {
    "empty": (422, "Send the bytes of an image."),
    "too_large": (413, "Save the image smaller."),
    "too_many_pixels": (413, "Save the image smaller: the answer will hardly change."),
    "unsupported_format": (415, "Convert it to JPEG, PNG, WebP, BMP, GIF or TIFF."),
    "damaged": (422, "Open it in an image viewer; if it shows, save it anew and send that."),
}
"""Kinds of `ImageError`, with the status of a request whose only image it is, and what the sender can do."""


class Problem(Exception):  # noqa: N818 (it is an answer)
    """A request that gets no answer, with the reason.

    status: of HTTP. code: a word for programs. message: what is wrong. what_to_do: about it, by the client.
    headers: additional ones of the response. v2: see `body`.
    """

    def __init__(
        self, status: int, code: str, message: str, what_to_do: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.what_to_do = status, code, message, what_to_do
        self.headers = dict(headers or {})

    @classmethod
    def of_image(cls, error: ImageError) -> "Problem":
        """What an image that cannot be read means for its request."""
        status, what_to_do = _OF_IMAGES[error.code]
        # The text begins with the image's name, which the client knows better, and ends with advice for files.
        message = str(error).partition(": ")[2].rpartition(". ")[0]
        return cls(status, error.code, message, what_to_do)

    def to_dict(self) -> dict[str, str]:
        """As plain JSON values."""
        return {"code": self.code, "message": self.message, "what_to_do": self.what_to_do}

    def body(self, *, v2: bool = False) -> bytes:
        """The body of the response; the Open Inference Protocol wants the message as ``error`` too."""
        return json.dumps(self.to_dict() | ({"error": self.message} if v2 else {})).encode()


def busy(seconds: int) -> Problem:
    """The queue is full."""
    return Problem(
        429,
        "busy",
        "more images are waiting than the server takes",
        f"Send it again in {seconds} s.",
        {"Retry-After": str(seconds)},
    )


def too_large(limit: int) -> Problem:
    """The body is over the limit."""
    return Problem(
        413,
        "too_large",
        f"the body is larger than {limit:,} bytes",
        "Save the image smaller, or send fewer at once.",
    )


def too_slow(what: str) -> Problem:
    """The client takes too long to send."""
    return Problem(
        408,
        "too_slow",
        f"{what} did not arrive in time",
        "Send it again, over a faster connection or smaller.",
    )


def internal() -> Problem:
    """Our own fault; the log knows more."""
    return Problem(500, "internal", "the server made a mistake", "Tell who runs it; its log says more.")
