"""Clips and cameras: frames in, a track of boxes out."""
