"""Drawn images with one thing each, whose box is known exactly: for the demo, tests and benchmarks."""

from solobox.synthetic.generate import Scene, draw
from solobox.synthetic.objects import KINDS
from solobox.synthetic.writing import ANNOTATIONS, write

LABELS = tuple(sorted(KINDS))
"""The kinds of thing that are drawn."""

__all__ = ["ANNOTATIONS", "LABELS", "Scene", "draw", "write"]
