"""The process: the socket, uvicorn, and an orderly end."""

import ipaddress
import logging
import signal
import socket
import time
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from solobox.errors import ConfigError
from solobox.serve.connections import limited
from solobox.serve.middleware import State
from solobox.serve.settings import KEY_VARIABLE, Settings


def listen(host: str, port: int, *, open_to_all: bool) -> socket.socket:
    """A listening socket. Port 0 is any that is free.

    open_to_all: others than this machine may come without an API key.
    Raises ConfigError for an address that cannot be had, and for one that others reach without a key.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {host}: there is no such address ({error})") from error
    family, kind, protocol, _, address = found[0]
    if not open_to_all and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise ConfigError(
            f"--host {host} lets everyone who reaches this machine use the model. Set {KEY_VARIABLE} in the "
            "environment, so that only those with the key may (docs/serve.md), keep to --host 127.0.0.1, or, behind "
            "something else that keeps strangers out, say --without-key"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port} cannot be listened at ({error.strerror}): choose another --port, or --host"
        ) from error
    return listener


class Server(uvicorn.Server):
    """uvicorn's, with readiness off first when it is told to stop, and the listener open a moment longer.

    A second signal ends the waiting: what is not yet answered is not any more.
    """

    def __init__(self, app: ASGIApp, settings: Settings, state: State) -> None:
        for name in ("uvicorn.error", "python_multipart"):  # clients could fill the log with warnings
            logging.getLogger(name).setLevel(logging.ERROR)
        super().__init__(
            uvicorn.Config(
                app,
                http=limited(settings),
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(settings.drain - settings.settle)),
            )
        )
        self._settings, self._state = settings, state
        self._last_call = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  (uvicorn's signature)
        """Begin to stop. Ctrl+C, by a person who waits, closes the listener at once."""
        if self._state.draining:
            self.should_exit = self.force_exit = True
            return
        self._state.draining = True
        patience = 0.0 if sig == signal.SIGINT else self._settings.settle
        self._last_call = time.monotonic() + patience

    async def on_tick(self, counter: int) -> bool:
        """Whether to close the listener now."""
        if self._state.draining and time.monotonic() >= self._last_call:
            self.should_exit = True
        return await super().on_tick(counter)
