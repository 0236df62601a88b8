"""The errors that are for people: each says what is wrong, where, and what to do about it."""


class SoloboxError(Exception):
    """Anything a user can mend. The command line prints its text alone, without a traceback, and exits 2."""


class PictureError(SoloboxError):
    """A picture that cannot be turned into pixels. The text names the file and the reason."""


class DataError(SoloboxError):
    """Labelled data that cannot be read or used. The text names the file and the row."""


class ConfigError(SoloboxError):
    """A setting that is unknown, of the wrong type, or senseless beside another one."""


class Paused(SoloboxError):  # noqa: N818 (nothing is wrong)
    """Training stopped where it can go on later; nothing is lost."""
