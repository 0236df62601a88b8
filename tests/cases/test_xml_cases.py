from pathlib import Path

import pytest
from format_cases import BOXES, SIZE, draw, pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from solobox.data import checks, formats
from solobox.data.formats import cvat
from solobox.errors import DataError


def box(i: int, more: str = "") -> str:
    x1, y1, x2, y2 = BOXES[i]
    return f'<box label="thing" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" {more}/>'


def image(i: int, shapes: str) -> str:
    return f'<image id="{i}" name="{i}.png" width="{SIZE[0]}" height="{SIZE[1]}">{shapes}</image>'


def put(folder: Path, content: str) -> Path:
    path = folder / "annotations.xml"
    path.write_text(f'<?xml version="1.0"?><annotations><version>1.1</version>{content}</annotations>')
    return path


def test_cvat_for_images(tmp_path: Path) -> None:
    draw(tmp_path / "images")
    turned = '<box label="thing" xtl="20" ytl="20" xbr="40" ybr="30" rotation="90"/>'
    polygon = '<polygon label="thing" points="5,20;30,4;60,50"/><points label="nose" points="1,1"/>'
    put(tmp_path, image(0, box(0) + box(1)) + image(1, "") + image(2, turned) + image(3, polygon))
    found = formats.read(tmp_path)
    assert found.format == "cvat"
    assert pixels(found) == [BOXES[0], BOXES[1], None, (25, 15, 35, 35), (5, 4, 60, 50)]
    assert "1 turned" in found.convention
    assert tuple(found.records[0].size or ()) == SIZE
    assert found.records[0].path.is_file()


def test_cvat_for_video(tmp_path: Path) -> None:
    frames = [box(i, f'frame="{i}" outside="{int(i == 2)}" keyframe="1"') for i in range(3)]
    put(tmp_path, f'<track id="0" label="thing">{"".join(frames)}</track>')
    found = formats.read(tmp_path)
    assert pixels(found) == [BOXES[0], BOXES[1], None]
    assert found.records[1].image == "frame_000001.png"


MASK = '<mask label="thing" rle="1, 2" left="3" top="4" width="9" height="8"/>'
POINTS = '<points label="nose" points="1,1"/>'


@pytest.mark.parametrize(
    "shape",
    [
        MASK,
        POINTS,
        '<polyline label="a" points="1,1;9,9"/>',
        '<skeleton label="a"><points label="1" points="3,3"/></skeleton>',
        '<cuboid label="a" xtl1="1" ytl1="1"/>',
    ],
)
def test_what_has_no_box_is_an_error_and_no_negative(tmp_path: Path, shape: str) -> None:
    draw(tmp_path)
    put(tmp_path, image(0, shape) + image(1, box(1) + shape) + image(2, "") + image(3, '<tag label="none"/>'))
    found = formats.read(tmp_path)
    errors = [(each.code, each.image) for each in checks.check(found).errors]
    assert errors == [("no-box", "0.png")]
    assert pixels(found)[1:] == [BOXES[1], None, None]
    assert "1 points, lines, masks and the like beside a box" in found.convention
    assert "1 images are without the object, as a tag says" in found.convention


def test_a_video_tells_of_what_has_no_box(tmp_path: Path) -> None:
    """Frame 0 has points while the box is outside; frame 1 has nothing but outside; frame 2 has points beside a box."""
    for frame in range(3):
        Image.new("RGB", SIZE, (frame, 9, 9)).save(tmp_path / f"frame_{frame:06d}.jpg")
    boxes = [box(i, f'frame="{i}" outside="{int(i < 2)}"') for i in range(3)]
    points = [f'<points frame="{i}" outside="0" points="1,1"/>' for i in (0, 2)]
    lost = box(0, 'frame="x" outside="0"')
    put(tmp_path, "".join(f'<track label="a">{"".join(each)}</track>' for each in (boxes, points, [lost])))
    found = formats.read(tmp_path)
    errors = [(each.code, each.where) for each in checks.check(found).errors]
    assert errors == [
        ("missing-key", "annotations.xml, track 3"),
        ("no-box", "annotations.xml, frame 0"),
    ]
    assert pixels(found)[1:] == [None, BOXES[2]]
    assert [record.path.name for record in found.records] == [f"frame_{i:06d}.jpg" for i in range(3)]


TEXT = image(0, box(0)) + image(1, '<ellipse label="a" cx="40" cy="30" rx="5" ry="7" rotation="30"/>')


@pytest.mark.parametrize("junk", ["", "x", "1e999", "nan", "&", "<"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, len(TEXT)), length=st.integers(0, 30))
def test_mutated_files_give_records_or_an_error(tmp_path: Path, junk: str, start: int, length: int) -> None:
    path = put(tmp_path, TEXT[:start] + junk + TEXT[start + length :])
    try:
        found = cvat.read(path)
    except DataError:
        return
    assert len(found.records) + len(found.problems) <= 3
