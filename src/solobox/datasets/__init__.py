"""Public data sets: downloaded from their owners, checked, and turned into tables that Solobox reads.

`DATASETS` lists them by name; `download` brings one. The owners' servers could not be reached where this was
written: it is tested on miniatures in the same layout, not on the real archives.
"""

from solobox.datasets.catalog import DATASETS, find
from solobox.datasets.downloader import Download, download
from solobox.datasets.public import Archive, PublicDataset

__all__ = ["DATASETS", "Archive", "Download", "PublicDataset", "download", "find"]
