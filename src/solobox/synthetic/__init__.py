"""Drawn images with one object each and its exact box: for the demo, tests and benchmarks."""

from solobox.synthetic.objects import KINDS
from solobox.synthetic.scene import Scene, draw
from solobox.synthetic.write import ANNOTATIONS, write

LABELS = tuple(sorted(KINDS))
"""The kinds of objects that are drawn."""

__all__ = ["ANNOTATIONS", "LABELS", "Scene", "draw", "write"]
