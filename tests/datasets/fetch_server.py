"""A server on loopback that behaves as real ones do on bad days; it notes what it was asked for."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from solobox.datasets import download


@dataclass
class Site:
    """Files by path, and how they are served.

    drops: for each coming request for a file, after how many bytes its connection is cut (None: never).
    failing: statuses that the next requests get instead of a file. hangs: how many of the coming requests hear
    nothing until `resume` is set. moved: paths that redirect, and where to.
    etag: the ETag; by default it follows from the content. asked: (path, Range, If-Range) of each request.
    """

    files: dict[str, bytes]
    ranges: bool = True
    heeds_if_range: bool = True
    validators: bool = True
    lengths: bool = True
    drops: list[int | None] = field(default_factory=list)
    failing: list[int] = field(default_factory=list)
    hangs: int = 0
    resume: threading.Event = field(default_factory=threading.Event)
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""

    def etag(self, path: str) -> str:
        return f'"{sha256(self.files[path]).hexdigest()[:12]}"'

    def ranges_asked(self) -> list[str | None]:
        return [asked[1] for asked in self.asked]


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        pass

    def do_GET(self) -> None:
        wanted, if_range = self.headers.get("Range"), self.headers.get("If-Range")
        self.site.asked.append((self.path, wanted, if_range))
        if self.site.hangs:
            self.site.hangs -= 1
            self.site.resume.wait(10)
        if self.path in self.site.moved:
            self._head(302, {"Location": self.site.moved[self.path], "Content-Length": "0"})
        elif self.site.failing:
            self._head(self.site.failing.pop(0), {"Content-Length": "0"})
        elif self.path not in self.site.files:
            self._head(404, {"Content-Length": "0"})
        else:
            self._send(wanted, if_range)

    def _send(self, wanted: str | None, if_range: str | None) -> None:
        content, status, headers = self.site.files[self.path], 200, {}
        if self.site.validators:
            headers["ETag"] = self.site.etag(self.path)
        same = if_range in (None, headers.get("ETag")) or not self.site.heeds_if_range
        if wanted and self.site.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        if self.site.lengths:
            headers["Content-Length"] = str(len(content))
        self._head(status, headers)
        drop = self.site.drops.pop(0) if self.site.drops else None
        with contextlib.suppress(OSError):  # the client may have gone
            self.wfile.write(content if drop is None else content[:drop])
        self.close_connection = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site, to which no proxy is asked, and whose breaks the client does not wait out."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Handler", (_Handler,), {"site": site}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(download, "WAITS", (0.0, 0.0, 0.0))
            patch.setenv("no_proxy", "127.0.0.1,localhost")
            yield site
    finally:
        site.resume.set()
        server.shutdown()
        server.server_close()
        thread.join()
