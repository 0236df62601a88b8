from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from solobox.images import drawing
from solobox.images.drawing import (
    PREDICTED,
    TRUTH,
    Outline,
    Pixels,
    Tile,
    contact_sheet,
    draw_boxes,
    draw_on,
    draw_reduced,
)

NAN = float("nan")


def grey(width: int, height: int, value: int = 120) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


def changed(before: Pixels, after: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray((np.asarray(after) != before).any(axis=2))


def of_color(image: Image.Image, color: drawing.Color) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray((np.asarray(image) == color).all(axis=2))


def extent(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> tuple[int, int, int, int]:
    y, x = np.nonzero(mask)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def test_the_outer_edge_of_the_line_is_the_box() -> None:
    image = draw_boxes(grey(200, 100), [Outline((20, 30, 150, 80))])
    line = of_color(image, PREDICTED)
    assert extent(line) == (20, 30, 150, 80)
    assert not line[40:70, 40:130].any()


def test_a_line_has_a_dark_halo_on_white_paper() -> None:
    around = np.asarray(draw_boxes(grey(200, 100, 255), [Outline((20, 30, 150, 80))]))[29, 60]
    assert (around < 140).all()


def test_the_image_given_is_left_as_it_is() -> None:
    pixels = grey(60, 60)
    draw_boxes(pixels, [Outline((5, 5, 50, 50), text="cat")])
    assert (pixels == 120).all()


@pytest.mark.parametrize(
    "box",
    [
        (NAN, 1, 2, 3),
        (NAN, NAN, NAN, NAN),
        (1, 1, float("inf"), 20),
        (50, 10, 20, 40),
        (10, 40, 30, 20),
        (-50, -50, -10, -10),
        (210, 10, 250, 40),
    ],
)
def test_a_box_that_cannot_be_drawn_draws_nothing(box: tuple[float, ...]) -> None:
    pixels = grey(200, 100)
    assert not changed(pixels, draw_boxes(pixels, [Outline(box, text="nothing")])).any()


def test_edges_past_the_frame_are_drawn_along_the_frame() -> None:
    image = draw_boxes(grey(200, 100), [Outline((-40, 20, 900, 300))])
    assert extent(of_color(image, PREDICTED)) == (0, 20, 200, 100)


def test_a_dashed_line_has_gaps_but_every_corner() -> None:
    line = of_color(draw_boxes(grey(200, 100), [Outline((20, 30, 150, 80), TRUTH, dashed=True)]), TRUTH)
    assert extent(line) == (20, 30, 150, 80)
    assert all(line[y, x] for y in (30, 79) for x in (20, 149))
    top = line[30, 20:150]
    assert 0.3 < top.mean() < 0.8


def test_both_boxes_stay_visible_where_they_coincide() -> None:
    box = (20, 30, 150, 80)
    image = draw_boxes(grey(200, 100), [drawing.predicted(box), drawing.truth(box)])
    assert of_color(image, PREDICTED)[30, 20:150].any()
    assert of_color(image, TRUTH)[30, 20:150].any()


def test_lines_grow_with_the_image() -> None:
    widths = [drawing.line_width(side, side) for side in (50, 400, 1600, 6000)]
    assert widths == sorted(widths)
    assert widths[0] >= 2
    assert widths[-1] > widths[1]


coordinates = st.floats(-50, 250)


@given(
    st.tuples(coordinates, coordinates, coordinates, coordinates),
    st.text(max_size=60),
    st.booleans(),
    st.integers(1, 120),
    st.integers(1, 120),
)
def test_any_box_and_text_can_be_drawn_on_any_image(
    box: tuple[float, ...], text: str, dashed: bool, width: int, height: int
) -> None:
    image = draw_boxes(grey(width, height), [Outline(box, text=text, dashed=dashed)])
    assert image.size == (width, height)


@pytest.mark.parametrize(
    "box",
    [(60, 80, 200, 150), (0, 0, 300, 200), (250, 180, 300, 200), (0, 0, 20, 20), (280, 0, 300, 200)],
)
def test_a_tag_lies_whole_inside_the_image(box: tuple[float, ...]) -> None:
    pixels = grey(300, 200)
    inside = draw_boxes(pixels, [Outline(box, text="kangaroo 0.93")])
    # The same drawing with room all around: if nothing of the tag was cut off, as much of it is to be seen.
    bare = draw_boxes(pixels, [Outline(box)])
    x1, y1, x2, y2 = extent(changed(np.asarray(bare), inside))
    font = drawing._font(max(11, round((300 * 200) ** 0.5 / 26)))
    assert x2 - x1 >= font.getlength("kangaroo 0.93")
    assert y2 - y1 >= sum(font.getmetrics())
    assert x1 >= 0
    assert x2 <= 300


def test_tags_of_close_boxes_do_not_cover_each_other() -> None:
    box = (60.0, 80.0, 200.0, 150.0)
    first, second = (Outline(box, c, text) for c, text in ((PREDICTED, "predicted"), (TRUTH, "true")))
    alone = of_color(draw_boxes(grey(300, 220), [first]), PREDICTED)
    both = of_color(draw_boxes(grey(300, 220), [first, second]), PREDICTED)
    assert (both[40:75] == alone[40:75]).all()


def test_a_long_text_is_shortened_in_the_middle() -> None:
    font = drawing._font(12)
    text = drawing._fit("a_very_long_folder/with_a_image_0001.jpg", font, 120)
    assert font.getlength(text) <= 120
    head, tail = text.split("…")
    assert "a_very_long_folder".startswith(head)
    assert "image_0001.jpg".endswith(tail)
    assert drawing._fit("short", font, 120) == "short"
    assert drawing._fit("anything", font, 1) == ""


@pytest.mark.parametrize(
    ("text", "plain"),
    [("Äpfel", "Apfel"), ("日本", "??"), ("a\nb", "a b"), ("\udcff", "?"), ("≥ 4", ">= 4")],
)
def test_letters_that_the_font_lacks_are_spelt_otherwise(text: str, plain: str) -> None:
    assert drawing._fit(text, drawing._font(12), 500) == plain


def test_a_image_is_reduced_before_it_is_drawn_on() -> None:
    image = draw_reduced(grey(800, 400), [Outline((100, 100, 700, 300))], 200)
    assert image.size == (200, 100)
    assert extent(of_color(image, PREDICTED)) == (25, 25, 175, 75)


def test_a_file_is_drawn_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey(40, 90)).save(tmp_path / "a.png", exif=exif)
    image = draw_on(tmp_path / "a.png", [drawing.predicted((50, 10, 80, 30))])
    assert image.size == (90, 40)
    assert extent(of_color(image, drawing.PREDICTED)) == (50, 10, 80, 30)


def test_a_sheet_has_an_even_grid_of_whole_images() -> None:
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    shapes = [(300, 100), (80, 240), (20, 20)]
    tiles: list[Tile] = []
    for color, (width, height) in zip(colors, shapes, strict=True):
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[:] = color
        tiles.append((pixels, [], "name"))
    sheet = contact_sheet(tiles, columns=2, tile=120)
    places = [extent(of_color(sheet, color)) for color in colors]
    assert [(x2 - x1, y2 - y1) for x1, y1, x2, y2 in places] == [(120, 40), (40, 120), (120, 120)]
    middles = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in places]
    assert middles[0][1] == middles[1][1]
    assert middles[0][0] == middles[2][0]
    assert middles[2][1] - middles[0][1] >= 120


def test_a_caption_stands_beneath_its_image() -> None:
    tiles: list[Tile] = [(grey(100, 100), [], "x" * 500)]
    with_caption = contact_sheet(tiles, columns=3, tile=100)
    without = contact_sheet([(grey(100, 100), [], "")], columns=3, tile=100)
    assert with_caption.size == without.size
    x1, y1, x2, y2 = extent(changed(np.asarray(without), with_caption))
    left, _, right, bottom = extent(of_color(without, (120, 120, 120)))
    assert left <= x1
    assert x2 <= right + 1
    assert bottom <= y1
    assert y2 <= with_caption.height


def test_a_legend_adds_a_line_at_the_foot() -> None:
    tiles: list[Tile] = [(grey(100, 100), [], "name")] * 3
    plain = contact_sheet(tiles, columns=3, tile=100)
    sheet = contact_sheet(tiles, columns=3, tile=100, legend=[drawing.truth((), "true box")])
    assert sheet.width == plain.width
    assert sheet.height > plain.height
    assert of_color(sheet, TRUTH)[plain.height - 20 :].any()
    assert (np.asarray(sheet)[: plain.height - 20] == np.asarray(plain)[:-20]).all()


@pytest.mark.parametrize(("columns", "tile"), [(0, 100), (3, 0)])
def test_a_senseless_sheet_is_refused(columns: int, tile: int) -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        contact_sheet([(grey(10, 10), [], "")], columns=columns, tile=tile)


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], columns=3, tile=100)


def test_a_note_on_the_whole_image_stands_in_its_upper_left_corner() -> None:
    nothing = [Outline((NAN, NAN, NAN, NAN))]
    before = grey(200, 100)
    assert not changed(before, draw_boxes(before, nothing)).any()
    x1, y1, x2, y2 = extent(changed(before, draw_boxes(before, nothing, "no object")))
    assert 0 < x1 < 10
    assert 0 < y1 < 10
    assert x2 < 120
    assert y2 < 40
    assert changed(grey(8, 8), draw_boxes(grey(8, 8), nothing, "no object")).any()
