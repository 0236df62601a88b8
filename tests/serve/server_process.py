"""A server in another process, started by the command."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

KEY = "a-key-that-is-long-enough-0123"


@dataclass
class Running:
    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30, **options)  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-c", "from solobox.cli import main; main()", "serve", *map(str, words)]


@contextmanager
def running(
    model: Path, *words: str, variables: Mapping[str, str] | None = None, program: str | None = None
) -> Iterator[Running]:
    """program: Python that takes the model and the port as arguments, instead of the command."""
    port = free_port()
    line = (
        [sys.executable, "-c", program, str(model), str(port)]
        if program
        else command(model, "--port", str(port), *words)
    )
    environment = {**os.environ, "COLUMNS": "200", **(variables or {})}
    process = subprocess.Popen(
        line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    )
    server = Running(process, port)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def _wait_until_ready(server: Running) -> None:
    until = time.monotonic() + 60
    with server.client() as client:
        while time.monotonic() < until:
            try:
                if client.get("/health/ready").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            if server.process.poll() is not None:
                assert server.process.stderr is not None
                raise AssertionError(server.process.stderr.read())
            time.sleep(0.05)
    raise AssertionError("it never became ready")
