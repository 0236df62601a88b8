"""Connections: how many there may be, how long the head of a request may take, and what is said to broken ones."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from solobox.serve.errors import Problem, too_slow
from solobox.serve.settings import Settings


class Connection(H11Protocol):
    """uvicorn's HTTP over h11, with the limits that it has none of.

    settings: set by `limited` in a class of its own, as uvicorn makes the objects.
    """

    settings: Settings

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One more, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            self._close_with(
                Problem(
                    503,
                    "too_many_connections",
                    "too many connections are open",
                    "Send it again in a while.",
                    {"Retry-After": "1"},
                )
            )
            return
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """More of it; a head must be complete in time, however many pieces it comes in."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head is None and self.conn.trailing_data[0]:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's signature)
        """What was sent is no HTTP. The parser's own words may repeat it, so they are not passed on."""
        self._close_with(
            Problem(400, "no_http", "this is not a valid HTTP request", "Use an HTTP/1.1 client.")
        )

    def _wait_for_head(self) -> None:
        self._head = self.loop.call_later(self.settings.head, self._no_head)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _no_head(self) -> None:
        self._head = None
        self._close_with(too_slow("the request"))

    def _close_with(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = problem.body()
            headers = {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                "Connection": "close",
                **problem.headers,
            }
            lines = [f"HTTP/1.1 {problem.status} {problem.code}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        if self.cycle is not None:  # whoever reads its body shall know
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def limited(settings: Settings) -> type[Connection]:
    """The class of connections with these limits."""
    return type("LimitedConnection", (Connection,), {"settings": settings})
