"""For ``pytest.raises(..., check=has_code("..."))``."""

from collections.abc import Callable


def has_code(code: str) -> Callable[[BaseException], bool]:
    """Whether an error has this `SoloboxError.code`."""

    def check(error: BaseException) -> bool:
        assert getattr(error, "code", None) == code, f"{error!r} has another code"
        return True

    return check
