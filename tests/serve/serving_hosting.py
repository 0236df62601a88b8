"""A server in a thread of the test's own process, with a model that the test holds by the hand."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import numpy as np
import numpy.typing as npt

from solobox.predict.onnx_model import Model
from solobox.predict.predictor import Answer
from solobox.serve.app import build
from solobox.serve.server import Server, listen
from solobox.serve.service import Service
from solobox.serve.settings import Settings


class HeldModel:
    """Answers when it is let go, and notes the sizes of its batches."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.fails = False
        self.side = model.side
        self.calibration = model.calibration
        self.has_presence, self.has_familiarity = model.has_presence, model.has_familiarity

    def answer(self, squares: npt.NDArray[np.uint8], /) -> Answer:
        self.entered.set()
        assert self.go.wait(60)
        self.batches.append(len(squares))
        if self.fails:
            raise RuntimeError("secret of the model")
        return self._model.answer(squares)


@dataclass
class Hosted:
    port: int
    service: Service
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextmanager
def hosted(model: Model | HeldModel, *, runners: int = 1, **limits: object) -> Iterator[Hosted]:
    settings = Settings(**{"settle": 0, "linger": 1.0, **limits})  # type: ignore[arg-type]
    service = Service.of(model, "model", settings, runners=runners)
    listener = listen("127.0.0.1", 0, open_to_all=False)
    server = Server(build(service), settings, service.state)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    port = listener.getsockname()[1]
    thread.start()
    found = Hosted(port, service, server)
    for _ in range(600):
        if server.started:
            break
        thread.join(0.02)
    assert server.started
    try:
        yield found
    finally:
        if isinstance(model, HeldModel):
            model.go.set()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def http_of(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next response."""
    data = b""
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        lengths = [
            line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        if found and lengths and len(body) >= int(lengths[0]):
            return int(head.split()[1]), body[: int(lengths[0])]
        piece = sock.recv(65536)
        if not piece:
            raise AssertionError(f"the connection ended after {data!r}")
        data += piece
