"""A server in a thread of the test process, with a model that the test can block."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from solobox.predict.onnx_model import OnnxModel
from solobox.predict.predictor import Pixels, RawOutput
from solobox.serve.app import build_app
from solobox.serve.label_studio_images import LabelStudioImages
from solobox.serve.server import Server, listen
from solobox.serve.settings import ServerSettings
from solobox.serve.state import ServerContext


class BlockedModel(OnnxModel):
    """Runs while `go` is set, and records the sizes of its batches."""

    def __init__(self, model: OnnxModel) -> None:
        self.__dict__.update(vars(model))
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.fails = False

    def infer(self, pixels: Pixels) -> RawOutput:
        self.entered.set()
        assert self.go.wait(60)
        self.batches.append(len(pixels))
        if self.fails:
            raise RuntimeError("secret of the model")
        return super().infer(pixels)


@dataclass
class Hosted:
    port: int
    context: ServerContext
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextmanager
def hosted(
    model: OnnxModel, *, workers: int = 1, label_studio: LabelStudioImages | None = None, **limits: object
) -> Iterator[Hosted]:
    settings = ServerSettings(**{"drain_delay": 0, "linger": 1.0, **limits})  # type: ignore[arg-type]
    context = ServerContext.create(model, "model", settings, workers=workers)
    listener = listen("127.0.0.1", 0, public=False)
    server = Server(build_app(context, label_studio), settings, context.state)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    port = listener.getsockname()[1]
    thread.start()
    running = Hosted(port, context, server)
    for _ in range(600):
        if server.started:
            break
        thread.join(0.02)
    assert server.started
    try:
        yield running
    finally:
        if isinstance(model, BlockedModel):
            model.go.set()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def read_response(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next response."""
    data = b""
    while True:
        head, separator, body = data.partition(b"\r\n\r\n")
        lengths = [
            line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        if separator and lengths and len(body) >= int(lengths[0]):
            return int(head.split()[1]), body[: int(lengths[0])]
        piece = sock.recv(65536)
        if not piece:
            raise AssertionError(f"the connection ended after {data!r}")
        data += piece
