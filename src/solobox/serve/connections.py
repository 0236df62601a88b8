"""One connection of a client: how many there may be, and how long the head of a request may take."""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any

import h11
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from solobox.serve.errors import HTTPError, invalid_http, request_timeout, too_many_connections
from solobox.serve.middleware import HEALTH_PATHS
from solobox.serve.settings import ServerSettings

_KEPT_FOR_PROBES = 8
"""Connections beyond the limit, which answer health checks alone."""


_FREE_CHUNKS = 1000
_MIN_CHUNK = 64
"""Bytes that the chunks of a body must have on average after the first thousand: each costs time in the event loop."""


class LimitedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with limits of connections and a timeout for the head of a request.

    Where there are too many connections, in all or of one client, the one that has been idle for longest is closed. If
    none is idle, a few more are accepted that answer health checks alone.

    settings: set by a subclass for each server, because uvicorn creates the objects.
    """

    settings: ServerSettings

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._next_event = self.conn.next_event
        self.conn.next_event = self._counted_event  # type: ignore[method-assign]
        self._chunks = self._chunk_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._client_network = ""
        self._idle_since = 0.0
        self._evicted = self._for_probes = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, unless there are too many."""
        super().connection_made(transport)
        self._client_network = _network(self.client)
        self._idle_since = self.loop.time()
        if self._make_room():
            self._start_timer()
        else:
            self._close_with(too_many_connections())

    def on_response_complete(self) -> None:
        """Note since when the connection is idle."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _make_room(self) -> bool:
        """Close an idle connection where there are too many; whether this one may stay."""
        others = [
            each
            for each in self.connections
            if isinstance(each, LimitedConnection) and each is not self and not each._evicted  # noqa: SLF001
        ]
        regular = [each for each in others if not each._for_probes]  # noqa: SLF001
        same = [each for each in regular if each._client_network == self._client_network]  # noqa: SLF001
        if len(same) >= self.settings.max_client_connections:
            if _evict_idle(same):
                return True
        elif len(regular) < self.settings.max_connections or _evict_idle(regular):
            return True
        self._for_probes = True
        self.app = _for_probes(self.app)
        probes = [each for each in others if each._for_probes]  # noqa: SLF001
        return len(probes) < _KEPT_FOR_PROBES or _evict_idle(probes)

    def _counted_event(self) -> Any:
        event = self._next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._chunk_bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._chunk_bytes += len(event.data)
            if self._chunks > _FREE_CHUNKS and self._chunk_bytes < _MIN_CHUNK * self._chunks:
                raise h11.RemoteProtocolError("its chunks are too small")
        return event

    def idle_since(self) -> float | None:
        """Since when no request is in work and no response on its way; None while there is one."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return None
        return self._idle_since if getattr(self.cycle, "response_complete", True) else None

    def evict(self) -> None:
        """Close the connection at once."""
        self._evicted = True
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse data; a head must be complete in time, however many pieces it comes in."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's signature)
        """Answer what is not HTTP. The parser's message may repeat it, so it is not passed on."""
        self._close_with(invalid_http())

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.settings.head_timeout, self._head_timed_out)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        self._close_with(request_timeout("the request"))

    def _close_with(self, error: HTTPError) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body, headers = error.response("")
            lines = [f"HTTP/1.1 {error.status} {error.code}"]
            lines += [f"{name}: {value}" for name, value in {**headers, "Connection": "close"}.items()]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        if self.cycle is not None:  # wakes the route that reads the body
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def _network(client: tuple[str, int] | None) -> str:
    """The client whose connections are counted together."""
    if client is None:
        return ""
    address = ipaddress.ip_address(client[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _evict_idle(connections: Sequence[LimitedConnection]) -> bool:
    """Close the connection that has been idle for longest; whether there was one."""
    idle = [(since, at) for at, each in enumerate(connections) if (since := each.idle_since()) is not None]
    if not idle:
        return False
    connections[min(idle)[1]].evict()
    return True


def _for_probes(app: ASGIApp) -> ASGIApp:
    """The application for health checks; anything else is refused (503)."""

    async def probes(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in HEALTH_PATHS:
            await app(scope, receive, send)
            return
        error = too_many_connections()
        body, headers = error.response(scope["path"])
        await Response(body, error.status, headers)(scope, receive, send)

    return probes
