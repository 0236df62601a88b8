import numpy as np
from drawn import person

from solobox.autolabel import find


def test_a_person_who_stands_is_inside_the_box_and_in_its_middle() -> None:
    image, (x1, y1, x2, y2) = person()
    (candidate,) = find("hog:people")(np.array(image))
    a, b, c, d = candidate.box
    assert a < x1
    assert b < y1
    assert c > x2
    assert d > y2
    assert abs((a + c) - (x1 + x2)) < 20
    assert abs((b + d) - (y1 + y2)) < 20
    assert candidate.score > 0


def test_no_person_and_no_room_for_one() -> None:
    assert find("hog:people")(np.full((300, 200, 3), 190, np.uint8)) == []
    assert find("hog:people")(np.full((60, 40, 3), 190, np.uint8)) == []
