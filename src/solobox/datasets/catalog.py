"""The public data sets by name."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from solobox.datasets.birds import CUB200
from solobox.datasets.caltech import CALTECH101
from solobox.datasets.pets import PET_HEADS
from solobox.datasets.public import PublicDataset
from solobox.datasets.selfie import SELFIE
from solobox.errors import ConfigError

DATASETS: Mapping[str, PublicDataset] = MappingProxyType(
    {dataset.name: dataset for dataset in (SELFIE, CALTECH101, PET_HEADS, CUB200)}
)


def find(name: str) -> PublicDataset:
    """The data set of that name; ``ConfigError`` (``dataset-unknown``), which lists all, for another name."""
    if name in DATASETS:
        return DATASETS[name]
    similar = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f" Did you mean {similar[0]!r}?" if similar else ""
    available = "".join(f"\n  {name:<11} {dataset.description}" for name, dataset in DATASETS.items())
    raise ConfigError(
        f"there is no public data set {name!r}.{hint} Available:{available}", code="dataset-unknown"
    )
