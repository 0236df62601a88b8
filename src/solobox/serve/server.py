"""The process: the socket, uvicorn with limits for connections, and a graceful stop.

uvicorn limits neither the time for the head of a request nor the number of connections of a client (a request may
trickle in for ever, before any middleware sees it), so `LimitedConnection` adds both to its h11 protocol, and `Server`
turns readiness off before it closes the listener. Other servers were considered. hypercorn 0.18 has a timeout for each
read, which a client that sends a byte at a time never meets, and no limit of connections. granian 2.8 has a timeout for
the head and a limit of connections, but those beyond it wait in the backlog of the kernel, health checks among them,
where a client here gets a 503 at once; and it has no phase in which readiness is off and connections are accepted.
"""

import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from solobox.errors import ConfigError
from solobox.serve.connections import LimitedConnection
from solobox.serve.settings import KEY_VARIABLE, ServerSettings
from solobox.serve.state import ServerState

_GRACE = 5.0
"""Seconds after the drain after which the process ends whatever still runs."""

_LAST_PORT = 65535


def listen(host: str, port: int, *, public: bool) -> socket.socket:
    """A listening socket. Port 0 is any free one.

    public: other machines may connect without an API key.

    Raises ConfigError: ``out-of-range`` for a port that there is not, ``address-invalid``, ``address-in-use`` and
    ``api-key-missing`` for an address that other machines reach without a key.
    """
    if not 0 <= port <= _LAST_PORT:
        raise ConfigError(f"--port is 0 to {_LAST_PORT}, not {port}", code="out-of-range")
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
            "environment, so that only those with the key may (docs/howto/serve.md), keep to --host 127.0.0.1, or, "
            "behind a proxy that authenticates clients, use --without-key",
            code="api-key-missing",
        )
    listener = socket.socket(family, kind, protocol)
    try:
        # On Windows alone there is the first; the second would let another server take the same port there.
        option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen at {host}:{port} ({error.strerror}): choose another --port, or --host",
            code="address-in-use",
        ) from error
    return listener


class Server(uvicorn.Server):
    """uvicorn's server; on a signal to stop it turns readiness off first, and keeps the listener open a moment longer.

    A second signal ends the waiting: requests that are not yet answered stay so. The process ends soon after the drain,
    even where the event loop is stuck.
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
        self._last_resort: threading.Timer | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal to stop."""
        try:
            super().run(sockets)
        finally:
            if self._last_resort is not None:
                self._last_resort.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  (uvicorn's signature)
        """Start to stop. Ctrl+C, by a person who waits, closes the listener at once."""
        if self._state.draining:
            self.should_exit = self.force_exit = True
            return
        self._state.draining = True
        self._last_resort = threading.Timer(self._settings.drain + _GRACE, _end_process, [1])
        self._last_resort.daemon = True
        self._last_resort.start()
        delay = 0.0 if sig == signal.SIGINT else self._settings.drain_delay
        self._close_listener_at = time.monotonic() + delay

    async def on_tick(self, counter: int) -> bool:
        """Whether to close the listener now."""
        if self._state.draining and time.monotonic() >= self._close_listener_at:
            self.should_exit = True
        return await super().on_tick(counter)


def end_if_busy() -> None:
    """End the process if a thread still decodes an image that nobody waits for.

    Python would wait for the thread, for as long as that takes.
    """
    until = time.monotonic() + 0.5
    for thread in threading.enumerate():
        if thread is threading.current_thread() or thread.daemon:
            continue
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            _end_process(0)


def _end_process(status: int) -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
