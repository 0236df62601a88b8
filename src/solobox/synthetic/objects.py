"""The things to find: one painter a kind.

A painter describes its thing about the origin, in units in which it is some two wide or high, y down, and
takes every choice (proportions, colours, pose) from the generator that it is given.
"""

from collections.abc import Callable
from dataclasses import dataclass

from numpy.random import Generator

from solobox.synthetic.canvas import Brush
from solobox.synthetic.toys import duck, fish, robot
from solobox.synthetic.wares import mug, plant, rocket


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing.

    paint: draws one. stands: whether it stands on the ground (else it floats or flies). turn: how far it may
    lean to either side, in radians. unit: size of its units that brings it to about the size of the others.
    home: the background where it is most often, and how often it is there by preference.
    """

    paint: Callable[[Brush, Generator], None]
    stands: bool
    turn: float
    unit: float = 1.0
    home: tuple[str, float] = ("", 0.0)


KINDS: dict[str, Kind] = {
    "duck": Kind(duck, stands=True, turn=0.12),
    "fish": Kind(fish, stands=False, turn=0.6, home=("sea", 0.45)),
    "mug": Kind(mug, stands=True, turn=0.1, unit=1.2, home=("room", 0.2)),
    "plant": Kind(plant, stands=True, turn=0.06, unit=0.95),
    "robot": Kind(robot, stands=True, turn=0.14, unit=0.86),
    "rocket": Kind(rocket, stands=False, turn=0.8, home=("town", 0.3)),
}
"""All kinds, by label."""
