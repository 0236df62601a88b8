"""Labelers by name."""

import difflib
import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from solobox.autolabel.candidates import Candidate
from solobox.autolabel.grabcut import grabcut
from solobox.autolabel.haar import CASCADES, SHORT, Haar
from solobox.autolabel.people import people
from solobox.errors import ConfigError

Labeler: TypeAlias = Callable[[npt.NDArray[np.uint8]], list[Candidate]]
"""From upright RGB pixels, shape (h, w, 3), uint8, the longer side at most `run.SIDE`, to all candidates."""

_AnyLabeler = TypeVar("_AnyLabeler", bound=Labeler)
_labelers: dict[str, Labeler] = {
    "grabcut": grabcut,
    "hog:people": people,
    **{f"haar:{name}": Haar(name) for name in CASCADES},
    **{f"haar:{name}": Haar(cascade) for name, cascade in SHORT.items()},
}


def register(name: str) -> Callable[[_AnyLabeler], _AnyLabeler]:
    """Give a labeler a name for ``solobox autolabel --with NAME``; ``ConfigError`` where the name is taken."""

    def add(labeler: _AnyLabeler) -> _AnyLabeler:
        if name in _labelers:
            raise ConfigError(
                f"there is a labeler {name!r} already; choose another name", code="labeler-exists"
            )
        _labelers[name] = labeler
        return labeler

    return add


def available() -> Mapping[str, Labeler]:
    """All labelers that have a name."""
    return MappingProxyType(dict(sorted(_labelers.items())))


def find(name: str) -> Labeler:
    """Find a labeler by its name, or a function by ``package.module:function``.

    ``ConfigError`` with the code ``labeler-unknown`` where there is none, and ``labeler-broken`` where its module
    cannot be imported.
    """
    if name in _labelers:
        return _labelers[name]
    module_name, colon, attribute = name.partition(":")
    similar = difflib.get_close_matches(name, _labelers, n=1, cutoff=0.5)
    hint = f" Did you mean {similar[0]!r}?" if similar else ""
    unknown = ConfigError(
        f"there is no labeler {name!r}.{hint} Name one of {', '.join(available())}, or your own as module:function",
        code="labeler-unknown",
    )
    if not colon or not module_name.replace(".", "_").isidentifier():
        raise unknown
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise unknown from None
        raise ConfigError(
            f"the module {module_name!r} cannot be imported: {type(error).__name__}: {error}",
            code="labeler-broken",
        ) from error
    labeler = getattr(module, attribute, None)
    if not callable(labeler):
        raise ConfigError(f"the module {module_name!r} has no function {attribute!r}", code="labeler-unknown")
    return labeler  # type: ignore[no-any-return]
