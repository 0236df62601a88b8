"""What a file records beside its boxes is used: sizes of images, words for "no object", two names of one image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solobox.data import checks
from solobox.data.checks.layout_rules import rotate
from solobox.data.dataset import Dataset
from solobox.data.formats.records import Annotations, Layout, Record
from solobox.errors import ConfigError, DataError

BOXES = [(10.0 + 4 * row, 8.0 + row, 50.0 + 5 * row, 40.0 + row) for row in range(6)]
W, H = 100, 60


def draw(path: Path, size: tuple[int, int], seed: int, orientation: int = 1) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).resize(size).save(path, exif=exif)


def annotations(
    folder: Path,
    *,
    drawn: tuple[int, int] = (W, H),
    recorded: tuple[float, float] | None = (W, H),
    boxes: list[tuple[float, float, float, float]] = BOXES,
    layout: Layout = Layout(),  # noqa: B008 (frozen)
    orientation: int = 1,
) -> Annotations:
    records = []
    for row, box in enumerate(boxes):
        path = folder / f"{row}.png"
        draw(path, drawn, row, orientation)
        records.append(Record(row + 2, f"a.csv, row {row + 2}", path.name, path, box, size=recorded))
    return Annotations(folder / "a.csv", "coco", "", tuple(records), layout)


def codes(found: checks.Diagnosis) -> list[str]:
    return [finding.code for finding in found.findings]


def fixed(found: checks.Diagnosis) -> np.ndarray:
    boxes = {fix.index: fix.box for fix in found.fixes}
    return np.array([boxes.get(row, record.box) for row, record in enumerate(found.annotations.records)])


def test_equal_sizes_say_nothing(tmp_path: Path) -> None:
    assert codes(checks.check(annotations(tmp_path), "headers")) == []


@pytest.mark.parametrize("unknown", [None, (0, 0), (-1, -1)])
def test_a_size_that_is_not_recorded_is_not_compared(
    tmp_path: Path, unknown: tuple[float, float] | None
) -> None:
    assert codes(checks.check(annotations(tmp_path, drawn=(2 * W, 2 * H), recorded=unknown), "headers")) == []


@pytest.mark.parametrize("factor", [0.5, 2, 3.3])
def test_boxes_are_scaled_as_their_images_were(tmp_path: Path, factor: float) -> None:
    drawn = round(W * factor), round(H * factor)
    given = annotations(tmp_path, drawn=drawn, boxes=[(a + 9, b, c + 9, d) for a, b, c, d in BOXES])
    found = checks.check(given, "headers")
    assert codes(found) == ["scaled-images"]
    assert np.allclose(fixed(found), np.array([record.box for record in given.records]) * factor, atol=1)
    with pytest.raises(DataError, check=lambda error: error.code == "data-errors"):
        Dataset.from_annotations(given)


def test_sizes_of_before_are_ignored_where_the_boxes_are_of_now(tmp_path: Path) -> None:
    boxes = [(2 * a, 2 * b, 2 * c, 2 * d) for a, b, c, d in BOXES]
    found = checks.check(annotations(tmp_path, drawn=(2 * W, 2 * H), boxes=boxes), "headers")
    assert codes(found) == ["recorded-size"]
    assert fixed(found).tolist() == [list(box) for box in boxes]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("fractions", [False, True])
def test_boxes_of_the_image_as_stored_are_turned(tmp_path: Path, orientation: int, fractions: bool) -> None:
    boxes = [(a / W, b / H, c / W, d / H) for a, b, c, d in BOXES] if fractions else BOXES
    layout = Layout("xyxy", "fractions") if fractions else Layout()
    found = checks.check(
        annotations(tmp_path, boxes=boxes, layout=layout, orientation=orientation), "headers"
    )
    assert codes(found) == ["unrotated-size"]
    expected = [rotate(np.array(box), orientation, (W, H)) for box in BOXES]
    assert np.allclose(fixed(found), expected)


def test_an_upright_size_proves_upright_boxes(tmp_path: Path) -> None:
    boxes = [(5.0, 5.0 + row, 40.0, 50.0 + row) for row in range(6)]  # they fit both ways
    found = checks.check(annotations(tmp_path, recorded=(H, W), boxes=boxes, orientation=6), "headers")
    assert codes(found) == []


def test_a_size_of_another_shape_is_an_error_that_only_a_person_can_settle(tmp_path: Path) -> None:
    given = annotations(tmp_path, recorded=(80, 80))
    found = checks.check(given, "headers")
    assert codes(found) == ["other-size"]
    assert found.bad_rows == tuple(range(6))
    told = replace(given, layout_is_certain=True)  # --layout xyxy
    assert checks.check(told, "headers").findings == ()


@pytest.mark.parametrize("placeholder", [(0, 0, 0, 0), (-1, -1, -1, -1), (0, 0, 1, 1)])
def test_what_stands_for_no_object(tmp_path: Path, placeholder: tuple[float, ...]) -> None:
    boxes = [*BOXES[:4], placeholder, placeholder]
    found = checks.check(annotations(tmp_path, boxes=boxes), "headers")  # type: ignore[arg-type]
    assert codes(found) == ["placeholder-box"]
    assert [record.box is None for record in found.annotations.records] == [False] * 4 + [True] * 2
    assert found.counts()["no split"] == (6, 4, 2, 0)
    assert Dataset.from_annotations(annotations(tmp_path, boxes=boxes)).has_box.sum() == 4  # type: ignore[arg-type]


def test_the_whole_image_in_fractions_is_a_box(tmp_path: Path) -> None:
    boxes = [(0.0, 0.0, 1.0, 1.0)] * 2 + [(0.1, 0.2, 0.5, 0.6)] * 4
    found = checks.check(annotations(tmp_path, boxes=boxes, layout=Layout("xyxy", "fractions")), "headers")
    assert "placeholder-box" not in codes(found)
    assert found.annotations.records[0].box == (0, 0, W, H)


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ((W, H), (50, 50), "two-names"),
        ((50, 50), (W, H), "two-names"),
        ((W, H), (W, H), "two-images"),
        ((50, 50), (50, 50), "two-images"),
    ],
)
def test_two_names_of_one_image(
    tmp_path: Path, first: tuple[int, int], second: tuple[int, int], code: str
) -> None:
    given = annotations(tmp_path, drawn=first)
    others = []
    for row, record in enumerate(given.records):
        other = tmp_path / f"other{row}.png"
        draw(other, second, 100 + row)
        others.append(replace(record, other_path=other))
    found = checks.check(replace(given, records=tuple(others)), "headers")
    assert code in codes(found)
    if code == "two-names":
        right = "other0.png" if second == (W, H) else "0.png"
        assert found.annotations.records[0].path.name == right
        assert found.errors == ()
    else:
        assert found.bad_rows == tuple(range(6))


def test_layouts_that_a_person_names(tmp_path: Path) -> None:
    draw(tmp_path / "0.png", (W, H), 0)
    draw(tmp_path / "1.png", (W, H), 1)
    data = tmp_path / "labels.csv"
    data.write_text("image,x1,y1,x2,y2\n0.png,0.5,0.5,0.2,0.4\n1.png,0.4,0.5,0.2,0.4\n")
    dataset = Dataset.read(data, layout="cxcywh-fractions")
    assert np.allclose(dataset.boxes[0], (40, 18, 60, 42))
    with pytest.raises(ConfigError, check=lambda error: error.code == "unknown-layout"):
        Dataset.read(data, layout="xyzw")


def test_confirming_the_layout_of_voc_does_not_move_its_boxes(tmp_path: Path) -> None:
    draw(tmp_path / "0.png", (W, H), 0)
    box = "<xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>50</ymax>"
    (tmp_path / "0.xml").write_text(
        f"<annotation><filename>0.png</filename><object><name>a</name><bndbox>{box}</bndbox></object></annotation>"
    )
    assert Dataset.read(tmp_path).boxes.tolist() == [[10, 20, 40, 50]]
    assert Dataset.read(tmp_path, layout="xyxy").boxes.tolist() == [[10, 20, 40, 50]]
