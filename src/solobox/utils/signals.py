"""Ctrl-C and SIGTERM: one orderly end for both, in whatever a program is doing."""

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_LATER = 0.05
"""Seconds after which a signal that came during an import is sent again."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came: whatever handles Ctrl-C handles it too."""


def exit_status(stop: KeyboardInterrupt) -> int:
    """The status of a program that a signal stopped, as shells give it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[None]:
    """In the block, Ctrl-C raises KeyboardInterrupt and SIGTERM `Terminated`, wherever the main thread then is.

    But not within an import: many libraries take a failure there for a package that is missing, and native ones may
    abort. And neither is lost where Python cannot raise it, such as in a destructor. For the main program only: outside
    of the main thread, and in a process that is forked from this one, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def send_later(number: int) -> None:
        # On Windows `os.kill` ends the process at once; elsewhere it is better, as it ends a call that waits, too.
        if sys.platform == "win32":
            timer = threading.Timer(_LATER, _thread.interrupt_main, (number,))
        else:
            timer = threading.Timer(_LATER, os.kill, (process, number))
        timer.daemon = True
        timer.start()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        elif _is_importing(frame):
            send_later(number)
        else:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def unraisable(fault: Any) -> None:
        if isinstance(fault.exc_value, KeyboardInterrupt):
            send_later(exit_status(fault.exc_value) - 128)
        else:
            hook(fault)

    hook, old = sys.unraisablehook, {number: signal.signal(number, stop) for number in _NUMBERS}
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _restore(old)


@contextmanager
def signals_held() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off until the end of the block.

    For native code that calls Python code: an exception of a signal, raised there, would abort the process, or pass for
    another error. Nothing changes outside of the main thread, which alone handles signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    old = {number: signal.signal(number, lambda number, _: received.append(number)) for number in _NUMBERS}
    try:
        yield
    finally:
        _restore(old)
        for number in dict.fromkeys(received):
            signal.raise_signal(number)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        # None: a handler that was not set by Python cannot be set by it.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
