"""Labelers by name."""

import difflib
import importlib
import pickle
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from solobox.autolabel.candidates import Candidate
from solobox.errors import ConfigError

Labeler: TypeAlias = Callable[[npt.NDArray[np.uint8]], list[Candidate]]
"""From upright RGB pixels, shape (h, w, 3), uint8, the longer side at most `running.SIDE`, to all candidates."""

_Any = TypeVar("_Any", bound=Labeler)
_labelers: dict[str, Labeler] = {}


def register(name: str) -> Callable[[_Any], _Any]:
    """Give a labeler a name for ``solobox autolabel --with NAME``.

    Every name is taken once: ``ConfigError`` for one that is there already, unless it is the same function
    loaded anew.
    """

    def keep(labeler: _Any) -> _Any:
        there = _labelers.get(name)
        if there is not None and _origin(there) != _origin(labeler):
            raise ConfigError(f"a labeler called {name!r} is there already; choose another name")
        _labelers[name] = labeler
        return labeler

    return keep


def known() -> Mapping[str, Labeler]:
    """All labelers that have a name, by name."""
    return MappingProxyType(dict(sorted(_labelers.items())))


def find(name: str) -> Labeler:
    """Find a labeler by its name, or by where it is: ``package.module:function``.

    ``ConfigError`` where there is none, and for one that cannot be handed to another process (a lambda, a
    function inside a function).
    """
    labeler = _labelers.get(name) or _imported(name)
    try:
        pickle.dumps(labeler)
    except Exception as error:  # whatever a user's object raises, it means the same
        raise ConfigError(
            f"the labeler {name!r} cannot be handed to other processes ({error}); "
            "make it a function of its own at the top of a module"
        ) from error
    return labeler


def _imported(name: str) -> Labeler:
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name.replace(".", "_").isidentifier() or not attribute:
        raise ConfigError(_unknown(name))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"the labeler {name!r} needs {error.name}, which is not installed") from error
        raise ConfigError(f"{_unknown(name)}; there is no module {error.name!r}") from error
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"the module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    labeler = _labelers.get(name) or getattr(module, attribute, None)
    if not callable(labeler):
        raise ConfigError(f"the module {module_name!r} holds no function {attribute!r}")
    found: Labeler = labeler
    return found


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _labelers, n=1, cutoff=0.5)
    hint = f" (is it {near[0]!r}?)" if near else ""
    return (
        f"{name!r} is no labeler{hint}, nor package.module:function of a module that can be found; "
        f"known are {', '.join(known())}"
    )


def _origin(labeler: Labeler) -> object:
    return getattr(labeler, "__module__", None), getattr(labeler, "__qualname__", labeler)
