"""How many pixels an image may have: a limit in the environment, so that processes that this one starts have it too."""

import os
from typing import Final

from solobox.errors import ConfigError

MAX_PIXELS: Final = 80_000_000
"""Width times height above which an image is refused; of a JPEG see `reading.read`. `allow_pixels` raises it."""

VARIABLE: Final = "SOLOBOX_MAX_PIXELS"


def allow_pixels(number: int | None) -> None:
    """Raise or lower the limit of this process and those that it starts to so many pixels; None changes nothing.

    Raises ConfigError ``out-of-range``.
    """
    if number is not None:
        if number < 1:
            raise ConfigError(f"--max-pixels is 1 or more, not {number}", code="out-of-range")
        os.environ[VARIABLE] = str(number)


def allowed_pixels() -> int | None:
    """The limit that `allow_pixels` or the environment's SOLOBOX_MAX_PIXELS sets; None for `MAX_PIXELS`.

    Raises ConfigError ``out-of-range``.
    """
    text = os.environ.get(VARIABLE, "")
    if text and not (text.isascii() and text.isdigit() and int(text)):
        raise ConfigError(f"{VARIABLE} is a number of pixels, not {text!r}", code="out-of-range")
    return int(text) if text else None
