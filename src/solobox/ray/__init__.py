"""Prediction for millions of images from any store, on one machine or many. Imports no torch.

`prepare` writes the plan into the output folder; `solobox.predict.job.run` predicts the missing shards.
"""

from solobox.ray.folder_job import FolderJob, prepare

__all__ = ["FolderJob", "prepare"]
