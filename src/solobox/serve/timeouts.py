"""Work that somebody waits for: it ends with the answer, the deadline, or when nobody waits any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from solobox.serve.errors import Problem
from solobox.serve.uploads import ClientLeft, left

T = TypeVar("T")


async def in_time(work: Coroutine[Any, Any, T], request: Request, seconds: float) -> T:
    """The result of the work. Cancels it and raises Problem (504) after the deadline, ClientLeft when the client goes.

    For after the whole body was read.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(left(request.receive))
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise ClientLeft
        raise Problem(
            504,
            "deadline",
            f"there was no answer within {seconds:g} s",
            "Send it again in a while, or send fewer images at once.",
            {"Retry-After": "1"},
        )
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
