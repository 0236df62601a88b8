"""Predicting for millions of images from any store, shard by shard, on one machine or many. Imports no torch.

`prepare` writes the plan into the output folder, `run` works off what is left of it. All that workers need lies in
that folder: which images belong to which shard, the settings, and the model.
"""

from solobox.ray.plan import Plan, Settings, prepare
from solobox.ray.running import Summary, here, run

__all__ = ["Plan", "Settings", "Summary", "here", "prepare", "run"]
