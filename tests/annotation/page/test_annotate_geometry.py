"""The geometry of the page, called in the browser: what holds for every box, point and view."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from browser import chromium, needs_chromium

from stand_in import Desk, stand_in  # isort: skip

pytestmark = needs_chromium

CASES = 300


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with stand_in() as server, chromium() as browser:
        server.desk = Desk([(64, 48)])
        opened = browser.new_page()
        opened.goto(server.url)
        yield opened


def call(page: Any, module: str, function: str, cases: list[list[Any]]) -> list[Any]:
    code = """async ([module, name, cases]) => {
        const loaded = await import(new URL(`page/${module}.js`, location.href));
        return cases.map((values) => loaded[name](...values)); }"""
    results: list[Any] = page.evaluate(code, [module, function, cases])
    return results


def sizes(seed: int) -> Iterator[tuple[random.Random, int, int]]:
    dice = random.Random(seed)  # noqa: S311
    for _ in range(CASES):
        yield dice, dice.randint(1, 4000), dice.randint(1, 4000)


def some_box(dice: random.Random, width: int, height: int) -> list[float]:
    x, y = (sorted(dice.uniform(0, side) for _ in range(2)) for side in (width, height))
    return [x[0], y[0], max(x[1], min(width, x[0] + 1)), max(y[1], min(height, y[0] + 1))]


@pytest.mark.parametrize("function", ["drag", "resize", "around"])
def test_boxes_stay_within_the_image_and_have_a_pixel_at_least(page: Any, function: str) -> None:
    cases: list[list[Any]] = []
    for dice, width, height in sizes(1):
        move = [dice.uniform(-2 * width, 2 * width), dice.uniform(-2 * height, 2 * height)]
        handle = dice.choice(["n", "s", "w", "e", "nw", "ne", "sw", "se"])
        first: dict[str, list[Any]] = {
            "drag": [some_box(dice, width, height), handle, *move],
            "resize": [some_box(dice, width, height), *move],
            "around": [[move, *([dice.uniform(-9, width), dice.uniform(-9, height)] for _ in range(3))]],
        }
        cases.append([*first[function], width, height])
    for (*_, width, height), (x1, y1, x2, y2) in zip(cases, call(page, "box", function, cases), strict=True):
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert x2 - x1 > 1 - 1e-9
        assert y2 - y1 > 1 - 1e-9


def test_a_moved_box_keeps_its_size_within_the_image(page: Any) -> None:
    cases: list[list[Any]] = [
        [
            some_box(dice, width, height),
            dice.uniform(-width, width),
            dice.uniform(-height, height),
            width,
            height,
        ]
        for dice, width, height in sizes(2)
    ]
    for (box, dx, _, width, height), moved in zip(cases, call(page, "box", "move", cases), strict=True):
        assert [moved[2] - moved[0], moved[3] - moved[1]] == pytest.approx([box[2] - box[0], box[3] - box[1]])
        assert min(moved) > -1e-9
        assert moved[2] < width + 1e-9
        assert moved[3] < height + 1e-9
        if box[0] + dx >= 0 and box[2] + dx <= width:
            assert moved[0] == pytest.approx(box[0] + dx)


def test_dragged_edges_are_where_the_pointer_is(page: Any) -> None:
    cases = [[[10, 20, 50, 60], handle, 5, -7, 100, 100] for handle in ("n", "e", "sw", "se")]
    assert call(page, "box", "drag", cases) == [
        [10, 13, 50, 60], [10, 20, 55, 60], [15, 20, 50, 53], [10, 20, 55, 53],
    ]  # fmt: skip
    # Past the opposite edge, the box turns over.
    assert call(page, "box", "drag", [[[10, 20, 50, 60], "w", 70, 0, 100, 100]]) == [[50, 20, 80, 60]]


@pytest.mark.parametrize(
    ("point", "handle"),
    [
        ((100, 100), "nw"), ((306, 95), "ne"), ((200, 93), "n"), ((106, 150), "w"), ((300, 200), "se"),
        ((200, 150), "inside"), ((89, 150), ""), ((200, 212), ""),
    ],
)  # fmt: skip
def test_what_is_under_the_pointer(page: Any, point: tuple[int, int], handle: str) -> None:
    assert call(page, "box", "handleAt", [[[100, 100, 300, 200], list(point), 10]]) == [handle]


def test_a_small_box_can_be_moved_with_a_finger(page: Any) -> None:
    assert call(page, "box", "handleAt", [[[100, 100, 120, 120], [110, 110], 24]]) == ["inside"]
    assert call(page, "box", "handleAt", [[[100, 100, 120, 120], [90, 130], 24]]) == ["sw"]


def views(page: Any, seed: int) -> tuple[list[list[Any]], list[dict[str, float]]]:
    """Zooms of the whole image, and the views after them."""
    cases: list[list[Any]] = []
    for dice, width, height in sizes(seed):
        room = {"width": dice.randint(200, 2000), "height": dice.randint(200, 1500)}
        cases.append([{"width": width, "height": height}, room])
    whole = call(page, "view", "fit", cases)
    dice = random.Random(seed)  # noqa: S311
    zooms = [
        [
            view,
            dice.uniform(0.2, 30),
            [dice.uniform(0, room["width"]), dice.uniform(0, room["height"])],
            image,
            room,
        ]
        for view, (image, room) in zip(whole, cases, strict=True)
    ]
    return zooms, call(page, "view", "zoom", zooms)


def test_a_zoomed_image_is_never_lost(page: Any) -> None:
    zooms, after = views(page, 3)
    for (before, _, _, image, room), view in zip(zooms, after, strict=True):
        assert view["scale"] > before["scale"] - 1e-9
        for at, side in (("x", "width"), ("y", "height")):
            start, end = view[at], view[at] + image[side] * view["scale"]
            # It is whole, or it reaches from border to border but for the room for handles.
            whole = start > -1e-6 and end < room[side] + 1e-6
            assert whole or (start < 14.001 and end > room[side] - 14.001)


def test_what_is_under_the_pointer_stays_there(page: Any) -> None:
    view = {"scale": 2, "x": -300, "y": -200}
    image, room, point = {"width": 800, "height": 600}, {"width": 500, "height": 400}, [210, 170]
    after = call(page, "view", "zoom", [[view, factor, point, image, room] for factor in (0.8, 1.1, 3)])
    seen = call(page, "view", "toImage", [[view, point] for view in [view, *after]])
    for place in seen[1:]:
        assert place == pytest.approx(seen[0])
    assert call(page, "view", "toCanvas", [[after[1], seen[0]]])[0] == pytest.approx(point)


def test_a_close_up_shows_the_boxes_and_never_less_than_the_whole_image_would(page: Any) -> None:
    cases: list[list[Any]] = []
    for dice, width, height in sizes(5):
        boxes = [some_box(dice, width, height) for _ in range(dice.randint(0, 2))]
        boxes = [[x1, y1, x1 + (x2 - x1) / 9, y1 + (y2 - y1) / 9] for x1, y1, x2, y2 in boxes]
        room = {"width": dice.randint(300, 1600), "height": dice.randint(200, 1000)}
        cases.append([boxes, {"width": width, "height": height}, room])
    wholes = call(page, "view", "fit", [case[1:] for case in cases])
    closer = 0
    for (boxes, _, room), whole, view in zip(
        cases, wholes, call(page, "view", "closeUp", cases), strict=True
    ):
        assert view["scale"] >= whole["scale"]
        closer += view["scale"] > whole["scale"]
        for box in boxes:
            left, right = (view["x"] + view["scale"] * box[side] for side in (0, 2))
            top, bottom = (view["y"] + view["scale"] * box[side] for side in (1, 3))
            assert -0.01 <= left <= right <= room["width"] + 0.01
            assert -0.01 <= top <= bottom <= room["height"] + 0.01
            if view["scale"] > whole["scale"]:
                assert right - left <= room["width"] / 5 + 0.01
    assert CASES / 4 < closer < CASES
