"""What every request passes first and every response last: the key, headers, counting, the rest of refused bodies."""

import asyncio
import contextlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from solobox.serve.errors import Problem
from solobox.serve.metrics import Metrics
from solobox.serve.settings import Settings

OPEN = ("/", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
"""Paths that need no key: they tell nothing about the model or its images."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_THROWN_AWAY = 4
"""Bodies of the largest size that are taken and thrown away, at most, before the connection is closed."""


@dataclass(slots=True)
class State:
    """What the whole server shares. draining: it will stop soon. begun, answered: requests."""

    draining: bool = False
    begun: int = 0
    answered: int = 0


class Front:
    """Wraps the application; plain ASGI, so that nothing is buffered."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, state: State) -> None:
        self._app, self._settings, self._metrics, self._state = app, settings, metrics, state
        self._key = settings.api_key.encode() if settings.api_key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._state.begun += 1
        started = time.perf_counter()
        exchange = Exchange(scope, receive, send, self._settings, self._state)
        if scope["method"] == "HEAD":  # which is GET without the body
            scope = {**scope, "method": "GET"}
        problem = self._refusal(scope)
        try:
            if problem is not None:
                await exchange.answer(problem)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the time for stopping is over
            with contextlib.suppress(Exception):
                await exchange.answer(
                    Problem(
                        503, "stopping", "the server is stopping", "Send it again: another one may answer."
                    )
                )
        finally:
            self._count(scope, exchange.status, time.perf_counter() - started)
            self._state.answered += exchange.complete

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        # A page elsewhere could otherwise keep the server busy through the browser of someone who may reach it.
        if scope["method"] == "POST" and headers.get("sec-fetch-site") == "cross-site":
            return Problem(
                403,
                "cross_site",
                "another site's page sent this",
                "Use the page of this server, or a program.",
            )
        if self._key is None or scope["path"] in OPEN or hmac.compare_digest(_key_in(headers), self._key):
            return None
        return Problem(
            401,
            "wrong_key",
            "the API key is missing or wrong",
            "Send it in the header: Authorization: Bearer KEY",
            {"WWW-Authenticate": "Bearer"},
        )

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # Paths and methods that clients made up would be series without end.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)


def _key_in(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip().encode("latin-1")
    return headers.get("x-api-key", "").strip().encode("latin-1")


class Exchange:
    """One request and its response.

    status: of the response, 499 where the client left before there was one. complete: whether all of it was sent.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings, state: State) -> None:
        headers = Headers(scope=scope)
        self._receive, self._send, self._settings, self._state = receive, send, settings, state
        self._path: str = scope["path"]
        self._whole = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self.status = 499
        self._started = False
        self.complete = False

    async def receive(self) -> Message:
        """The next piece of the body."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._whole = True
        return message

    async def send(self, message: Message) -> None:
        """The next piece of the response."""
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            message = {**message, "headers": self._headers(message)}
        final = message["type"] == "http.response.body" and not message.get("more_body", False)
        # Of who closes with a body still coming in, the system tells the client of a reset, and never the response.
        lingering = final and not self._whole
        # A client that does not read must not hold us for ever.
        async with asyncio.timeout(self._settings.upload):
            await self._send({**message, "more_body": True} if lingering else message)
            if lingering:
                await self._throw_away()
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        self.complete = self.complete or final

    def _headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        own: list[tuple[bytes, bytes]] = list(message.get("headers", []))
        names = {name.lower() for name, _ in own}
        own += [
            (name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in names
        ]
        if self._state.draining or not self._whole:
            own.append((b"connection", b"close"))
        return own

    async def _throw_away(self) -> None:
        left = _THROWN_AWAY * self._settings.max_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.linger):
                while not self._whole and left > 0:
                    left -= len((await self.receive()).get("body", b""))

    async def answer(self, problem: Problem) -> None:
        """Answer with a problem, unless there is a response already."""
        if self._started:
            return
        body, headers = response(problem, self._path)
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})


def response(problem: Problem, path: str) -> tuple[bytes, Mapping[str, str]]:
    """Body and headers of a problem's response, in the shape that this path's clients expect."""
    body = problem.body(v2=path == "/v2" or path.startswith("/v2/"))
    return body, {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **problem.headers,
    }
