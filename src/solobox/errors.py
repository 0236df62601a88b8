"""The errors that are for people: each says what is wrong, where, and what to do about it."""


class SoloboxError(Exception):
    """Anything a user can fix. The command line prints its text alone, without a traceback, and exits 2.

    code: the fault in a few words joined by hyphens, such as ``image-damaged``: for programs and tests. The text may
        change between versions, the code does not.
    """

    code = "error"

    def __init__(self, text: str, *, code: str = "") -> None:
        super().__init__(text)
        if code:
            self.code = code


class ImageError(SoloboxError):
    """An image that cannot be turned into pixels. The text names the file and the reason.

    code: ``image-empty``, ``image-too-large`` (bytes), ``image-too-many-pixels``, ``image-too-complex`` (it would
        take minutes to decode), ``image-unsupported-format`` or ``image-damaged``, which is also said of a file that
        cannot be opened.
    """

    code = "image-damaged"


class DataError(SoloboxError):
    """Labelled data that cannot be read or used. The text names the file and the row."""

    code = "data-invalid"


class ConfigError(SoloboxError):
    """A setting that is unknown, of the wrong type, or in conflict with another one."""

    code = "config-invalid"


class Paused(SoloboxError):  # noqa: N818 (nothing is wrong)
    """Training stopped where it can continue later; nothing is lost.

    signal: the number of the signal that stopped it; 0 for none, as at `stop_after`.
    """

    code = "paused"
    signal = 0


def reason(error: BaseException) -> str:
    """Why something could not be done, in a few words, as the system or a library says it."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text) or type(error).__name__
