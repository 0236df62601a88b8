"""A server on loopback that behaves as real ones do on bad days."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest

from loopback import on_loopback


@dataclass
class Site:
    """Files by path, and how they are served.

    drops: for each coming request, after how many bytes its connection is cut. failing: statuses that the next
    requests get instead of a file. moved: paths that redirect, and where to. requests: the paths of all requests.
    """

    files: dict[str, bytes]
    drops: list[int] = field(default_factory=list)
    failing: list[int] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        pass

    def do_GET(self) -> None:
        self.site.requests.append(self.path)
        if self.path in self.site.moved:
            self._head(302, {"Location": self.site.moved[self.path]})
        elif self.site.failing:
            self._head(self.site.failing.pop(0), {})
        elif self.path not in self.site.files:
            self._head(404, {})
        else:
            content = self.site.files[self.path]
            self._head(200, {"Content-Length": str(len(content))})
            with contextlib.suppress(OSError):  # the client may have gone
                self.wfile.write(content[: self.site.drops.pop(0)] if self.site.drops else content)
            self.close_connection = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site without a proxy, and without the client's pauses between tries."""
    with (
        on_loopback(type("_Handler", (_Handler,), {"site": site})) as site.url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("pooch.core.time.sleep", lambda _: None)
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield site
