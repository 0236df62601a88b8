"""The data sets that are known, by name."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from solobox.datasets.birds import CUB200
from solobox.datasets.caltech import CALTECH101
from solobox.datasets.pets import PET_HEADS
from solobox.datasets.selfie import SELFIE
from solobox.datasets.sets import PublicDataset
from solobox.errors import ConfigError

SETS: Mapping[str, PublicDataset] = MappingProxyType(
    {kind.name: kind for kind in (SELFIE, CALTECH101, PET_HEADS, CUB200)}
)


def find(name: str) -> PublicDataset:
    """The set of that name; ``ConfigError``, which lists all, where there is none."""
    if name in SETS:
        return SETS[name]
    near = difflib.get_close_matches(name, SETS, n=1)
    hint = f" Is it {near[0]!r}?" if near else ""
    known = "".join(f"\n  {kind.name:<11} {kind.what}" for kind in SETS.values())
    raise ConfigError(f"{name!r} is no data set that can be fetched.{hint} These are:{known}")
