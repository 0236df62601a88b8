"""Labelled images: formats, checks, the dataset, its splits."""
