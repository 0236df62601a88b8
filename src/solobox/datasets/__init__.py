"""Public data sets, from their owners' servers to a table that Solobox reads.

`SETS` has them by name; `fetch` downloads, checks, unpacks and prepares one. Where this was written none of
their hosts could be reached: it is tested on miniatures in the same layout, the real archives were not tried.
"""

from solobox.datasets.fetching import Fetched, fetch
from solobox.datasets.progress import Progress, Silent
from solobox.datasets.registry import SETS, find
from solobox.datasets.sets import Archive, PublicDataset

__all__ = ["SETS", "Archive", "Fetched", "Progress", "PublicDataset", "Silent", "fetch", "find"]
