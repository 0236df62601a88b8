import numpy as np
import pytest
from drawn import Box, thing

from solobox.autolabel.grabcut import grabcut
from solobox.boxes import iou


@pytest.mark.parametrize("box", [(50, 40, 141, 101), (30, 30, 70, 130), (110, 20, 180, 60)])
def test_a_thing_before_a_wall_is_found(box: Box) -> None:
    (candidate,) = grabcut(thing(box))
    assert iou(candidate.box, box) > 0.9
    assert 0.5 < candidate.score <= 1


def test_large_images_give_the_same_box_larger() -> None:
    small = thing()
    (candidate,) = grabcut(small.repeat(4, axis=0).repeat(4, axis=1))
    assert iou(candidate.box, (200, 160, 564, 404)) > 0.9


def test_it_repeats() -> None:
    assert grabcut(thing()) == grabcut(thing())


@pytest.mark.parametrize("shape", [(150, 200, 3), (1, 1, 3), (4, 300, 3)])
def test_where_nothing_stands_out_nothing_is_found(shape: tuple[int, int, int]) -> None:
    assert grabcut(np.full(shape, 90, np.uint8)) == []


def test_grain_alone_is_no_object() -> None:
    wall = thing()
    wall[:] = wall[:, :1]
    assert grabcut(wall[:, :40]) == []
