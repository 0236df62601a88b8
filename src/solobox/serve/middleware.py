"""What every request passes first and every response last: the key, headers, metrics, the rest of refused bodies."""

import asyncio
import base64
import contextlib
import hmac
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from solobox.page import page_files
from solobox.serve.errors import HTTPError, invalid_http, server_stopping
from solobox.serve.hosts import HostPolicy
from solobox.serve.prometheus import ServerMetrics
from solobox.serve.settings import ServerSettings
from solobox.serve.state import ServerState

HEALTH_PATHS = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
KEYLESS_PATHS = ("/", "/health", *(f"/page/{name}" for name in page_files("server")), *HEALTH_PATHS)
"""Paths that need no API key: they reveal nothing about the model or its images."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_MAX_DISCARDED = 4
"""How much of a refused body is read and discarded before the connection is closed, in bodies of the largest size."""


class GuardMiddleware:
    """Wraps the application; plain ASGI, so that nothing is buffered."""

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, metrics: ServerMetrics, state: ServerState
    ) -> None:
        self._app, self._settings, self._metrics, self._state = app, settings, metrics, state
        self._hosts = HostPolicy(settings.bound, settings.allow_hosts, settings.allow_origins)
        self._key = settings.api_key.encode() if settings.api_key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._state.received += 1
        started = time.perf_counter()
        exchange = HTTPExchange(scope, receive, send, self._settings, self._state)
        if scope["method"] == "HEAD":  # which is GET without the body
            scope = {**scope, "method": "GET"}
        error = self._refusal(scope)
        try:
            if error is not None:
                await exchange.send_error(error)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the time for stopping is over
            with contextlib.suppress(Exception):
                await exchange.send_error(server_stopping())
        finally:
            self._count(scope, exchange.status, time.perf_counter() - started)
            self._state.answered += exchange.complete

    def _refusal(self, scope: Scope) -> HTTPError | None:
        headers = Headers(scope=scope)
        # A proxy could read either length, and take the rest of the body for the next request.
        if "content-length" in headers and "transfer-encoding" in headers:
            return invalid_http()
        if not scope["http_version"].startswith("1."):
            return invalid_http()
        refusal = self._hosts.refusal(headers)
        if refusal is not None:
            return refusal
        allowed = self._hosts.allows_origin(headers.get("origin"))
        # Another site's page could otherwise keep the server busy through a visitor's browser.
        if scope["method"] == "POST" and headers.get("sec-fetch-site") == "cross-site" and not allowed:
            return HTTPError(
                403,
                "cross-site-request",
                "a page of another site sent this",
                "Use the page of this server, or a program.",
            )
        if (
            self._key is None
            or scope["path"] in KEYLESS_PATHS
            or (
                allowed and scope["method"] == "OPTIONS"
            )  # browsers ask without the key whether they may send it
            or hmac.compare_digest(_api_key(headers), self._key)
        ):
            return None
        return HTTPError(
            401,
            "invalid-api-key",
            "the API key is missing or wrong",
            "Send it in the header: Authorization: Bearer KEY",
            {"WWW-Authenticate": "Bearer"},
        )

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # Paths and methods that clients invent would make series without end.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)


def _api_key(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip().encode("latin-1")
    if scheme.lower() == "basic":  # Label Studio knows no other way; the user's name means nothing
        with contextlib.suppress(ValueError):
            return base64.b64decode(token.strip(), validate=True).partition(b":")[2]
    return headers.get("x-api-key", "").strip().encode("latin-1")


class HTTPExchange:
    """One request and its response.

    status: of the response, 499 where the client left before there was one. complete: whether all of it was sent.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, settings: ServerSettings, state: ServerState
    ) -> None:
        headers = Headers(scope=scope)
        self._receive, self._send, self._settings, self._state = receive, send, settings, state
        self._path: str = scope["path"]
        self._body_read = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._started = False
        self.status = 499
        self.complete = False

    async def receive(self) -> Message:
        """The next piece of the body."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_read = True
        return message

    async def send(self, message: Message) -> None:
        """Send the next piece of the response."""
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            message = {**message, "headers": self._headers(message)}
        final = message["type"] == "http.response.body" and not message.get("more_body", False)
        # To close while a body still comes in would reset the connection, and the client never read the response.
        linger = final and not self._body_read
        # A client that does not read must not occupy the server for ever.
        async with asyncio.timeout(self._settings.body_timeout):
            await self._send({**message, "more_body": True} if linger else message)
            if linger:
                await self._discard_body()
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        self.complete = self.complete or final

    def _headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
        names = {name.lower() for name, _ in headers}
        headers += [
            (name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in names
        ]
        if self._state.draining or not self._body_read:
            headers.append((b"connection", b"close"))
        return headers

    async def _discard_body(self) -> None:
        left = _MAX_DISCARDED * self._settings.max_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.linger):
                while not self._body_read and left > 0:
                    left -= len((await self.receive()).get("body", b""))

    async def send_error(self, error: HTTPError) -> None:
        """Send an error as the response, unless there is a response already."""
        if self._started:
            return
        body, headers = error.response(self._path)
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})
