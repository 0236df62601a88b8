"""Label Studio's side of what the ML backend asks it for, on loopback: media behind a token."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from loopback import on_loopback

REFRESH, ACCESS, LEGACY = "head.body.sign", "access-token", "0123456789abcdef"


@dataclass
class StandInLabelStudio:
    """media: by path and query. moved: paths that redirect, and where to. requests: of all, with their token."""

    media: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    cut: bool = False
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    studio: StandInLabelStudio

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        pass

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have gone
            self.wfile.write(content)

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "")
        self.studio.requests.append((self.path, token))
        if self.path in self.studio.moved:
            self._answer(302, Location=self.studio.moved[self.path])
        elif token not in (f"Token {LEGACY}", f"Bearer {ACCESS}"):
            self._answer(401)
        elif self.path not in self.studio.media:
            self._answer(404)
        elif self.studio.cut:
            self._answer(200, self.studio.media[self.path], Content_Length="999999")
        else:
            self._answer(200, self.studio.media[self.path])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.studio.requests.append((self.path, ""))
        valid = self.path == "/api/token/refresh" and REFRESH.encode() in body
        self._answer(200, b'{"access": "%s"}' % ACCESS.encode()) if valid else self._answer(401)


@contextmanager
def studio_running() -> Iterator[StandInLabelStudio]:
    studio = StandInLabelStudio()
    with on_loopback(type("_Handler", (_Handler,), {"studio": studio})) as studio.url:
        yield studio
