"""Public data sets, from their owners' servers to a table that Solobox reads.

`SETS` has them by name; `fetch` downloads, checks, unpacks and prepares one. Where this was written none of
their hosts could be reached: it is tested on miniatures in the same layout, the real archives were not tried.
"""

from solobox.fetching.fetching import Fetched, fetch
from solobox.fetching.progress import Progress, Silent
from solobox.fetching.registry import SETS, find
from solobox.fetching.sets import Archive, DataSet

__all__ = ["SETS", "Archive", "DataSet", "Fetched", "Progress", "Silent", "fetch", "find"]
