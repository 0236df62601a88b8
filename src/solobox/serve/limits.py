"""Limits of one request: the bytes of its body, the time to send it, its images, and the time to answer."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from solobox.serve.errors import HTTPError, body_too_large, request_timeout, server_busy
from solobox.serve.settings import ServerSettings

T = TypeVar("T")


class UploadBudget:
    """Memory for the bodies of all requests together. used: bytes."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self.used = 0

    @contextmanager
    def upload(self, request: Request) -> Iterator["Upload"]:
        """The body of a request; its bytes count as used until the block ends."""
        upload = Upload(self, self._settings, request)
        try:
            yield upload
        finally:
            self.used -= upload.size


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file of a form. name: as the client sent it; it is repeated in the answer and never opened."""

    name: str
    content: bytes


class Upload:
    """The body of one request, counted as it comes in, whatever its Content-Length says."""

    def __init__(self, budget: UploadBudget, settings: ServerSettings, request: Request) -> None:
        self._budget, self._settings, self._request = budget, settings, request
        self.size = 0

    async def read(self) -> bytes:
        """The whole body. Raises HTTPError (408, 413, 415, 429) and ClientDisconnect."""
        return b"".join([piece async for piece in self._stream()])

    async def read_form(self) -> list[FormFile]:
        """The files of a ``multipart/form-data`` body, in order; other fields are refused.

        Raises as `read`, and HTTPError for an invalid form (422) or too many files (413).
        """
        parser = _FormParser(self._request.headers, self._stream(), self._settings.max_images)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise _invalid_form(error.message.rstrip(".")) from None
        try:
            uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if not uploads:
                raise _invalid_form("it holds no image")
            return [FormFile((each.filename or "")[:255], await each.read()) for each in uploads]
        finally:
            await form.close()

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        headers, settings = self._request.headers, self._settings
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPError(
                415,
                "unsupported-encoding",
                "the body is compressed",
                "Send the image as it is: image formats are compressed already.",
            )
        # It is a number, or the HTTP parser would have refused it.
        if int(headers.get("content-length", "0")) > settings.max_bytes:
            raise body_too_large(settings.max_bytes)
        end = asyncio.get_running_loop().time() + settings.body_timeout
        more = True
        while more:
            pause = asyncio.get_running_loop().time() + settings.read_timeout
            try:
                async with asyncio.timeout_at(min(end, pause)):
                    message = await self._request.receive()
            except TimeoutError:
                raise request_timeout("the body") from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            self.size += len(piece)
            self._budget.used += len(piece)
            if self.size > settings.max_bytes:
                raise body_too_large(settings.max_bytes)
            if self._budget.used > settings.max_body_memory:
                raise server_busy(1)
            yield piece
            more = message.get("more_body", False)


class _FormParser(MultiPartParser):
    """Starlette's parser for files alone, in memory; it counts all parts, and a missing end is an error."""

    spool_max_size = (
        0  # never to disk: the container's is read-only, and the limit of the body bounds the memory
    )

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], max_files: int) -> None:
        super().__init__(headers, self._complete(stream), max_files=max_files, max_fields=0)
        self._parts, self._ended = 0, False

    async def _complete(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for piece in stream:
            yield piece
        if not self._ended:
            raise MultiPartException("its end is missing")

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > self.max_files:
            raise HTTPError(
                413,
                "too-many-images",
                f"the form has more than {self.max_files} images",
                f"Send up to {self.max_files} images in one request.",
            )
        super().on_part_begin()

    def on_end(self) -> None:
        self._ended = True


def _invalid_form(reason: str) -> HTTPError:
    return HTTPError(
        422,
        "invalid-form",
        f"the form is invalid: {reason}",
        "Send it as curl does: curl -F file=@photo.jpg URL",
    )


async def with_deadline(work: Coroutine[Any, Any, T], request: Request, seconds: float) -> T:
    """The result of the work, once the whole body was read.

    Cancels the work and raises HTTPError (504) after the deadline, ClientDisconnect when the client leaves.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnected(request))
    try:
        done, _ = await asyncio.wait({task, disconnect}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if disconnect in done:
            raise ClientDisconnect
        raise HTTPError(
            504,
            "deadline-exceeded",
            f"there was no answer within {seconds:g} s",
            "Send it again later, or send fewer images at once.",
            {"Retry-After": "1"},
        )
    finally:
        task.cancel()
        disconnect.cancel()
        await asyncio.gather(task, disconnect, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
