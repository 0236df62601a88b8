from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from check_sets import Box, ImageSet
from PIL import Image, ImageOps

from solobox.data.checks.layout_rules import rotate
from solobox.data.formats.parsing import NOT_A_BOX
from solobox.data.formats.records import Layout


@pytest.fixture
def data(tmp_path: Path) -> ImageSet:
    """Twelve fine records of images 100 x 80."""
    data = ImageSet(tmp_path)
    data.fine(12)
    return data


def test_fine_boxes_are_fine(data: ImageSet) -> None:
    assert data.codes() == []


# the box, then the code it gets; the near misses have none
@pytest.mark.parametrize(
    ("box", "code"),
    [
        ((nan, 2, 60, 60), "box-not-numbers"),
        ((2, 2, inf, 60), "box-not-numbers"),
        ((60, 20, 10, 60), "corners-swapped"),
        ((10, 60, 60, 20), "corners-swapped"),
        ((10, 20, 10, 60), "empty-box"),
        ((10, 38, 60, 38), "empty-box"),
        ((10, 20, 102.1, 60), "box-outside"),
        ((10, 20, 60, 90), "box-outside"),
        ((-3, 20, 60, 60), "box-outside"),
        ((10, -50, 60, 60), "box-outside"),
        ((10, 20, 102, 60), "box-over-edge"),
        ((-0.6, 20, 60, 60), "box-over-edge"),
        ((10, 20, 60, 80.4), None),
        ((10, 20, 100, 80), None),
        ((100, 20, 130, 60), "box-off-image"),
        ((10, -60, 60, 0), "box-off-image"),
        ((200, 300, 400, 500), "box-off-image"),
        ((0, 0, 100, 80), "whole-frame"),
        ((1, 0.5, 99.5, 79), "whole-frame"),
        ((0, 0, 100, 78), None),
        ((20, 20, 23.9, 60), "tiny-box"),
        ((20, 20, 60, 23.9), "tiny-box"),
        ((20, 20, 24, 60), None),
    ],
)
def test_one_box(data: ImageSet, box: Box, code: str | None) -> None:
    data.add("odd.png", box)
    diagnosis = data.check("headers")
    assert [finding.code for finding in diagnosis.findings] == ([code] if code else [])
    assert all(finding.row == 14 and finding.image == "odd.png" for finding in diagnosis.findings)
    assert diagnosis.bad_rows == ((12,) if diagnosis.errors else ())


def test_one_box_without_images(data: ImageSet) -> None:
    for number, box in enumerate([(nan, 1, 9, 9), (10, 10, 10, 20), (10, 10, 20, 12), (10, 10, 5000, 5000)]):
        data.add(f"odd{number}.png", box)
    assert data.codes("numbers") == ["box-not-numbers", "empty-box", "tiny-box"]


def test_what_the_file_wrote_is_what_is_shown(data: ImageSet) -> None:
    data.add("odd.png", (nan, nan, nan, nan), text="10, twenty, 60, 60")
    assert "10, twenty, 60, 60" in data.only().message


def test_one_percent_of_a_large_image_is_a_slip_and_a_small_object(data: ImageSet) -> None:
    data.add("large.png", (300, 10, 1009, 300), size=(1000, 400))
    data.add("small.png", (300, 10, 309, 300), size=(1000, 400))
    data.add("not small.png", (300, 10, 310, 300), size=(1000, 400))
    assert data.codes("headers") == ["box-over-edge", "tiny-box"]


def test_a_yolo_box_is_not_to_blame_for_its_image(tmp_path: Path) -> None:
    data = ImageSet(tmp_path, "yolo", Layout("cxcywh", "fractions"))
    data.image("there.png")
    data.add("there.png", (0.5, 0.5, 0.5, 0.5))
    data.add("gone.png", (0.5, 0.5, 0.2, 0.2), draw=False)
    assert data.codes() == ["missing-file"]
    assert data.check().annotations.records[0].box == (25, 20, 75, 60)


def test_negatives_have_no_box_to_check(data: ImageSet) -> None:
    data.add("empty.png", None)
    assert data.codes() == []


# --- corners and sizes ---


def test_swapped_corners_are_mended_only_where_the_file_leaves_no_doubt(
    tmp_path: Path, data: ImageSet
) -> None:
    data.add("odd.png", (60, 20, 10, 60))
    assert [fix.box for fix in data.check("headers").fixes] == [(10, 20, 60, 60)]
    (tmp_path / "alone").mkdir()
    alone = ImageSet(tmp_path / "alone")
    alone.add("odd.png", (60, 20, 10, 60))  # may as well be 10 wide and 60 high
    diagnosis = alone.check("headers")
    assert [finding.code for finding in diagnosis.findings] == ["corners-swapped"]
    assert [fix.box for fix in diagnosis.fixes] == [None]


def test_swapped_corners_of_a_box_outside_are_an_error_once(data: ImageSet) -> None:
    data.add("odd.png", (160, 20, 10, 60))
    diagnosis = data.check("headers")
    assert [finding.code for finding in diagnosis.findings] == ["corners-swapped"]
    assert [fix.box for fix in diagnosis.fixes] == [None]


def sizes_file(data: ImageSet, count: int) -> None:
    rng = np.random.default_rng(5)
    for number in range(count):
        width, height = rng.uniform(30, 50), rng.uniform(24, 40)
        x, y = rng.uniform(0, 100 - width), rng.uniform(0, 80 - height)
        data.add(f"{number}.png", (x, y, width, height))


def test_a_file_of_x_y_width_height_is_one_error_and_all_rows_are_bad(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    sizes_file(data, 40)
    diagnosis = data.check("headers")
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level, finding.row) == ("not-corners", "error", 0)
    assert "x, y, width, height" in finding.message
    assert diagnosis.bad_rows == tuple(range(40))
    x, y, width, height = data.records[7].box or (0, 0, 0, 0)
    assert diagnosis.fixes[7].box == pytest.approx((x, y, x + width, y + height))


def test_without_sizes_of_images_it_is_told_but_not_mended(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    sizes_file(data, 40)
    diagnosis = data.check("numbers")
    assert [finding.code for finding in diagnosis.findings] == ["not-corners"]
    assert all(fix.box is None for fix in diagnosis.fixes)


def test_a_few_swapped_rows_do_not_make_the_file_one_of_sizes(data: ImageSet) -> None:
    data.fine(28, start=12)
    for number in range(4):
        data.add(f"odd{number}.png", (60 + number, 30, 10, 70))
    assert data.codes("headers") == ["corners-swapped"] * 4


def test_large_objects_with_sizes_stay_in_order_and_get_a_warning(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    for number in range(25):
        data.add(f"{number}.png", (10 + number % 5, 10 + number % 4, 75 + number % 3, 58 + number % 2))
    diagnosis = data.check("headers")
    assert [finding.code for finding in diagnosis.findings] == ["maybe-not-corners"]
    assert diagnosis.bad_rows == ()


def test_a_stamp_in_the_upper_left_corner_is_not_taken_for_sizes(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    for number in range(25):
        data.add(f"{number}.png", (2 + number % 5, 3 + number % 4, 24 + number % 3, 19 + number % 2))
    assert data.codes("headers") == []


def test_a_format_that_states_its_layout_is_believed_while_its_boxes_fit(tmp_path: Path) -> None:
    data = ImageSet(tmp_path, "coco", Layout("xywh"))
    sizes_file(data, 40)
    diagnosis = data.check("headers")
    assert diagnosis.errors == ()
    x, y, width, height = data.records[0].box or NOT_A_BOX
    assert diagnosis.annotations.records[0].box == (x, y, x + width, y + height)


def test_fractions_are_one_error_and_are_mended_by_each_images_size(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    for number in range(12):
        data.add(f"{number}.png", (0.4, 0.3 + number / 100, 0.9, 0.8), size=(100 + number, 80))
    diagnosis = data.check("headers")
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level, finding.row) == ("normalised-boxes", "error", 0)
    assert diagnosis.bad_rows == tuple(range(12))
    assert diagnosis.fixes[3].box == pytest.approx((0.4 * 103, 0.33 * 80, 0.9 * 103, 0.8 * 80))


def test_yolo_fractions_in_a_csv_are_known_by_their_order(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(40):
        width, height = rng.uniform(0.3, 0.6, 2)
        x, y = rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2)
        data.add(f"{number}.png", (x, y, width, height))
    diagnosis = data.check("headers")
    (finding,) = diagnosis.findings
    assert finding.code == "normalised-boxes"
    assert "centre x, centre y" in finding.message
    x, y, width, height = data.records[0].box or (0, 0, 0, 0)
    expected = (100 * (x - width / 2), 80 * (y - height / 2), 100 * (x + width / 2), 80 * (y + height / 2))
    assert diagnosis.fixes[0].box == pytest.approx(expected)


def test_one_row_of_fractions_among_pixels_is_a_tiny_box_with_a_hint(data: ImageSet) -> None:
    data.add("odd.png", (0.2, 0.2, 0.8, 0.8))
    finding = data.only("headers")
    assert finding.code == "tiny-box"
    assert "fractions" in finding.advice


def test_what_else_is_wrong_in_a_file_of_fractions_is_told_too(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    for number in range(12):
        data.add(f"{number}.png", (0.4, 0.3 + number / 100, 0.9, 0.8))
    data.add("flat.png", (0.4, 0.5, 0.9, 0.5))
    assert data.codes("headers") == ["normalised-boxes", "empty-box"]


# --- EXIF ---


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_turns_as_pillow_turns_its_image(orientation: int) -> None:
    pixels = np.zeros((30, 50), dtype=np.uint8)
    pixels[4:11, 12:33] = 255
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    ys, xs = np.nonzero(upright)
    expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert rotate(np.array([12.0, 4, 33, 11]), orientation, (50, 30)).tolist() == expected


def test_a_box_of_the_unrotated_image_is_told_and_turned(data: ImageSet) -> None:
    data.add("turned.jpg", (60, 10, 95, 50), size=(100, 60), orientation=6)
    diagnosis = data.check("headers")
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level) == ("unrotated-box", "error")
    assert "EXIF" in finding.message
    assert [fix.box for fix in diagnosis.fixes] == [(10, 60, 50, 95)]


def test_a_box_of_the_upright_image_is_fine(data: ImageSet) -> None:
    data.add("turned.jpg", (10, 60, 50, 95), size=(100, 60), orientation=6)
    data.add("both.jpg", (10, 10, 50, 50), size=(100, 60), orientation=6)
    assert data.codes("headers") == []


def test_a_box_that_fits_neither_way_is_outside(data: ImageSet) -> None:
    data.add("turned.jpg", (50, 10, 95, 90), size=(100, 60), orientation=6)
    assert data.codes("headers") == ["box-outside"]


def test_boxes_that_fit_both_ways_are_doubted_when_others_are_proven_wrong(data: ImageSet) -> None:
    data.add("proof.jpg", (60, 10, 95, 50), size=(100, 60), orientation=6)
    data.add("both.jpg", (10, 10, 50, 50), size=(100, 60), orientation=6)
    data.add("upside down.jpg", (10, 10, 50, 50), size=(100, 60), orientation=3)
    assert data.codes("headers") == ["unrotated-box", "maybe-unrotated", "maybe-unrotated"]
    data.add("right.jpg", (10, 60, 50, 95), size=(100, 60), orientation=6)
    assert data.codes("headers") == ["unrotated-box"]


# --- shape ---


def test_a_shape_unlike_all_others_of_its_label_is_told(data: ImageSet) -> None:
    data.fine(20, start=12, label="plane")
    data.add("thin.png", (40, 5, 46, 75), label="plane")
    data.add("thin but of another kind.png", (40, 5, 46, 75), label="mast")
    finding = data.only("headers")
    assert (finding.code, finding.level, finding.image) == ("odd-aspect", "warning", "thin.png")
    assert "'plane'" in finding.message


def test_few_rows_have_no_usual_shape(data: ImageSet) -> None:
    data.add("thin.png", (40, 5, 46, 75))
    assert data.codes("headers") == []


def test_mild_differences_in_a_uniform_set_are_not_told(data: ImageSet) -> None:
    data.fine(20, start=12)
    data.add("square.png", (40, 30, 70, 60))
    assert data.codes("headers") == []


def test_an_upright_object_in_an_upright_image_is_usual(data: ImageSet) -> None:
    data.fine(20, start=12)
    data.add("upright.png", (30, 35, 60, 85), size=(60, 130))
    assert data.codes("headers") == []
    data.add("gone.png", (20, 30, 70, 60), draw=False)
    assert data.codes("headers") == ["missing-file"]
