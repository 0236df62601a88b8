"""The body of a request, counted while it comes in, whatever its length is said to be."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import Receive

from solobox.serve.errors import Problem, busy, too_large, too_slow
from solobox.serve.settings import Settings


class ClientLeft(Exception):  # noqa: N818
    """The client closed the connection before it had an answer: nobody reads one."""


class Uploads:
    """Reads bodies into memory, within the limits of each and of all together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.held = 0

    @contextmanager
    def holding(self, request: Request) -> Iterator["Upload"]:
        """An upload whose bytes count as held until the block ends."""
        upload = Upload(self, self._settings, request)
        try:
            yield upload
        finally:
            self.held -= upload.size


class Upload:
    """The body of one request."""

    def __init__(self, uploads: Uploads, settings: Settings, request: Request) -> None:
        self._all, self._settings, self._request = uploads, settings, request
        self.size = 0

    async def read(self) -> bytes:
        """The whole body. Raises Problem (408, 413, 415, 429) and ClientLeft."""
        headers, limit = self._request.headers, self._settings.max_bytes
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(
                415,
                "unsupported_encoding",
                "the body is compressed",
                "Send the image as it is: it is compressed in itself.",
            )
        # It is digits, or the connection would have been refused.
        if int(headers.get("content-length", "0")) > limit:
            raise too_large(limit)
        try:
            async with asyncio.timeout(self._settings.upload):
                return await self._pieces()
        except TimeoutError:
            raise too_slow("the body") from None

    async def _pieces(self) -> bytes:
        pieces = []
        while True:
            async with asyncio.timeout(self._settings.pause):
                message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece = message.get("body", b"")
            self.size += len(piece)
            self._all.held += len(piece)
            if self.size > self._settings.max_bytes:
                raise too_large(self._settings.max_bytes)
            if self._all.held > self._settings.max_held:
                raise busy(1)
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)


async def left(receive: Receive) -> None:
    """Wait until the client is gone; for after its whole body has come."""
    while (await receive())["type"] != "http.disconnect":
        pass
