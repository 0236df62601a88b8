"""The errors that are for people: each says what is wrong, where, and what to do about it."""


class SoloboxError(Exception):
    """Anything a user can mend. The command line prints its text alone, without a traceback, and exits 2."""


class ImageError(SoloboxError):
    """An image that cannot be turned into pixels. The text names the file and the reason.

    kind: the same in a word, for programs: ``empty``, ``too_large`` (bytes), ``too_many_pixels``,
        ``unsupported_format`` or ``damaged``, which is also said of a file that cannot be opened.
    """

    def __init__(self, text: str, *, kind: str = "damaged") -> None:
        super().__init__(text)
        self.kind = kind


class DataError(SoloboxError):
    """Labelled data that cannot be read or used. The text names the file and the row."""


class ConfigError(SoloboxError):
    """A setting that is unknown, of the wrong type, or senseless beside another one."""


class Paused(SoloboxError):  # noqa: N818 (nothing is wrong)
    """Training stopped where it can go on later; nothing is lost."""


def reason(error: BaseException) -> str:
    """Why something could not be done, in a few words, as the system or a library says it."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text) or type(error).__name__
