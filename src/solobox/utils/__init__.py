"""Helpers for all layers: atomic files, threads, progress, JSON."""
