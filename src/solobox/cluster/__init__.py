"""Predicting for millions of pictures from any store, shard by shard, on one machine or many. Imports no torch.

`prepare` writes the plan into the output folder, `run` works off what is left of it. All that workers need lies in
that folder: which pictures belong to which shard, the settings, and the model.
"""

from solobox.cluster.plan import Plan, Settings, prepare
from solobox.cluster.running import Summary, here, run

__all__ = ["Plan", "Settings", "Summary", "here", "prepare", "run"]
