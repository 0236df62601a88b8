"""Errors of the HTTP API: one shape for all of them, and how OpenAPI describes them."""

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from solobox.errors import ConfigError, ImageError
from solobox.serve.schemas import ErrorBody, InferenceErrorBody

IMAGE_ERRORS = {
    "image-empty": (422, "Send the bytes of an image."),
    "image-too-large": (413, "Save the image smaller."),
    "image-too-many-pixels": (413, "Save the image smaller: the prediction will hardly change."),
    "image-too-complex": (413, "Open it in an image editor and save it again."),
    "image-unsupported-format": (415, "Convert it to JPEG, PNG, WebP, BMP, GIF or TIFF."),
    "image-damaged": (422, "Open it in an image viewer; if it opens, save it again and send that."),
}
"""Codes of `ImageError`, with the status of a request for that one image and a hint for the client."""

OPTION_ERRORS = {
    "options-conflict": "Send one of them.",
    "out-of-range": "Send a probability, such as 0.9.",
    "no-margins": "Leave margins, outer and max_cut out.",
    "margins-need-more-images": "Ask for a lower level; GET /v1/model lists them.",
    "no-presence": "Leave min_presence out.",
}
"""Codes of the `ConfigError` of `PredictOptions`, with a hint for the client."""


class HTTPError(Exception):
    """A request that fails.

    status: of HTTP. code: the error in a few words joined by hyphens, for programs; the same as in `solobox.errors`.
    message: what is wrong. hint: what the client can do about it. headers: additional headers of the response.
    """

    def __init__(
        self, status: int, code: str, message: str, hint: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint
        self.headers = dict(headers or {})

    @classmethod
    def from_image_error(cls, error: ImageError) -> "HTTPError":
        """The error of a request whose image cannot be read."""
        status, hint = IMAGE_ERRORS[error.code]
        # The text begins with the image's name, which the client knows, and ends with advice about files.
        message = str(error).partition(": ")[2].rpartition(". ")[0]
        return cls(status, error.code, message, hint)

    @classmethod
    def from_option_error(cls, error: ConfigError) -> "HTTPError":
        """The error of a request for what this model cannot predict."""
        hint = OPTION_ERRORS.get(error.code, "See GET /v1/model for what this model predicts.")
        message = re.split(r"[.:] ", str(error))[0]  # what follows is advice about training
        return cls(422, error.code, message, hint)

    def to_dict(self) -> dict[str, str]:
        """The error as plain JSON values, see `ErrorBody`."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    def response(self, path: str) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the response for a path. The Open Inference Protocol repeats the message as ``error``."""
        v2 = path == "/v2" or path.startswith("/v2/")
        body = json.dumps(self.to_dict() | ({"error": self.message} if v2 else {})).encode()
        return body, {"Content-Type": "application/json", "Content-Length": str(len(body)), **self.headers}


def server_busy(seconds: int) -> HTTPError:
    """The queue or the memory for uploads is full; `seconds` for Retry-After."""
    return HTTPError(
        429,
        "server-busy",
        "more images are waiting than the server accepts",
        f"Send it again in {seconds} s.",
        {"Retry-After": str(seconds)},
    )


def body_too_large(limit: int) -> HTTPError:
    """The body has more than `limit` bytes."""
    return HTTPError(
        413,
        "body-too-large",
        f"the body is larger than {limit:,} bytes",
        "Save the image smaller, or send fewer at once.",
    )


def invalid_http() -> HTTPError:
    """The request is not HTTP/1, or two of its headers contradict each other."""
    return HTTPError(
        400,
        "invalid-http",
        "this is not a valid HTTP request",
        "Use an HTTP/1.1 client.",
        {"Connection": "close"},
    )


def request_timeout(what: str) -> HTTPError:
    """The client sends `what` too slowly."""
    return HTTPError(
        408,
        "request-timeout",
        f"{what} did not arrive in time",
        "Send it again, over a faster connection or smaller.",
    )


def too_many_connections() -> HTTPError:
    """All connections, or all of this client, are at work."""
    return HTTPError(
        503,
        "too-many-connections",
        "too many connections are open",
        "Send it again later.",
        {"Retry-After": "1", "Connection": "close"},
    )


def server_stopping() -> HTTPError:
    """The server is about to exit."""
    return HTTPError(
        503, "server-stopping", "the server is stopping", "Send it again: another server may answer."
    )


def internal_error() -> HTTPError:
    """A bug of the server; the traceback is in its log."""
    return HTTPError(
        500, "internal-error", "the server failed", "Tell its operator: the server's log has the reason."
    )


# Errors in the OpenAPI description -----------------------------------------------------------------------

Responses: TypeAlias = dict[int | str, dict[str, Any]]

PREDICT_ERRORS: Responses = {
    400: {"model": ErrorBody, "description": "Not valid HTTP"},
    401: {"model": ErrorBody, "description": "The API key is missing or wrong"},
    403: {
        "model": ErrorBody,
        "description": "Sent by a page of another site, or to a host that is not this server",
    },
    408: {"model": ErrorBody, "description": "The body came too slowly"},
    413: {"model": ErrorBody, "description": "Too many bytes, pixels or images"},
    415: {"model": ErrorBody, "description": "Not an image of a supported format"},
    422: {"model": ErrorBody, "description": "An invalid parameter, or an image that is empty or damaged"},
    429: {"model": ErrorBody, "description": "Too many images are waiting; see Retry-After"},
    503: {"model": ErrorBody, "description": "The model failed, or the server is stopping"},
    504: {"model": ErrorBody, "description": "No prediction before the deadline"},
}
"""Errors of the route that takes images."""

FORBIDDEN: Responses = {status: PREDICT_ERRORS[status] for status in (400, 403)}
UNAUTHORIZED: Responses = {**FORBIDDEN, 401: PREDICT_ERRORS[401]}
NOT_READY: Responses = {
    **FORBIDDEN,
    503: {"model": ErrorBody, "description": "The server is stopping, or the model failed"},
}

V2_INFER_ERRORS: Responses = {
    status: {**error, "model": InferenceErrorBody}
    for status, error in PREDICT_ERRORS.items()
    if status != 422
}
V2_INFER_ERRORS[400] = {"model": InferenceErrorBody, "description": "A tensor that the model does not accept"}
V2_INFER_ERRORS[404] = {"model": InferenceErrorBody, "description": "No model of this name"}
V2_INFER_ERRORS[415] = {"model": InferenceErrorBody, "description": "The body is compressed"}

V2_FORBIDDEN: Responses = {
    400: {**FORBIDDEN[400], "model": InferenceErrorBody},
    403: V2_INFER_ERRORS[403],
}
V2_UNAUTHORIZED: Responses = {**V2_FORBIDDEN, 401: V2_INFER_ERRORS[401]}
V2_MODEL_ERRORS: Responses = {**V2_UNAUTHORIZED, 404: V2_INFER_ERRORS[404]}
V2_NOT_READY: Responses = {**V2_FORBIDDEN, 503: {**NOT_READY[503], "model": InferenceErrorBody}}
