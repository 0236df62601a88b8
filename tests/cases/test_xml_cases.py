from pathlib import Path

import pytest
from format_cases import BOXES, SIZE, draw, pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solobox.data import formats
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
