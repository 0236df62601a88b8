"""The process: the socket, uvicorn with limits for connections, and a graceful stop.

uvicorn limits neither the time for the head of a request nor the number of connections (a request may trickle in for
ever, before any middleware sees it), so `LimitedConnection` adds both to its h11 protocol, and `Server` turns readiness
off before it closes the listener. Other servers were considered. hypercorn 0.18 has a timeout for each read, which a
client that sends a byte at a time never meets, and no limit of connections. granian 2.8 has a timeout for the head and
a limit of connections, but those beyond it wait in the backlog of the kernel, health checks among them, where a client
here gets a 503 at once; and it has no phase in which readiness is off and connections are still accepted.
"""

import asyncio
import ipaddress
import logging
import signal
import socket
import time
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from solobox.errors import ConfigError
from solobox.serve.errors import HTTPError, invalid_http, request_timeout
from solobox.serve.settings import KEY_VARIABLE, ServerSettings
from solobox.serve.state import ServerState


def listen(host: str, port: int, *, public: bool) -> socket.socket:
    """A listening socket. Port 0 is any free one.

    public: other machines may connect without an API key.

    Raises ConfigError: ``address-invalid``, ``address-in-use`` and ``api-key-missing`` for an address that other
    machines reach without a key.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {host}: there is no such address ({error})", code="address-invalid"
        ) from error
    family, kind, protocol, _, address = addresses[0]
    if not public and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise ConfigError(
            f"--host {host} lets everyone who reaches this machine use the model. Set {KEY_VARIABLE} in the "
            "environment, so that only those with the key may (docs/serve.md), keep to --host 127.0.0.1, or, behind "
            "a proxy that authenticates clients, use --without-key",
            code="api-key-missing",
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen at {host}:{port} ({error.strerror}): choose another --port, or --host",
            code="address-in-use",
        ) from error
    return listener


class LimitedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with a limit of connections and a timeout for the head of a request.

    settings: set by a subclass for each server, because uvicorn creates the objects.
    """

    settings: ServerSettings

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            self._close_with(
                HTTPError(
                    503,
                    "too-many-connections",
                    "too many connections are open",
                    "Send it again later.",
                    {"Retry-After": "1"},
                )
            )
            return
        self._start_timer()

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


class Server(uvicorn.Server):
    """uvicorn's server; on a signal to stop it turns readiness off first, and keeps the listener open a moment longer.

    A second signal ends the waiting: requests that are not yet answered stay so.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, state: ServerState) -> None:
        for name in ("uvicorn.error", "python_multipart"):  # clients could fill the log with warnings
            logging.getLogger(name).setLevel(logging.ERROR)
        super().__init__(
            uvicorn.Config(
                app,
                http=type("Connection", (LimitedConnection,), {"settings": settings}),
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(settings.drain - settings.drain_delay)),
            )
        )
        self._settings, self._state = settings, state
        self._close_listener_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  (uvicorn's signature)
        """Start to stop. Ctrl+C, by a person who waits, closes the listener at once."""
        if self._state.draining:
            self.should_exit = self.force_exit = True
            return
        self._state.draining = True
        delay = 0.0 if sig == signal.SIGINT else self._settings.drain_delay
        self._close_listener_at = time.monotonic() + delay

    async def on_tick(self, counter: int) -> bool:
        """Whether to close the listener now."""
        if self._state.draining and time.monotonic() >= self._close_listener_at:
            self.should_exit = True
        return await super().on_tick(counter)
