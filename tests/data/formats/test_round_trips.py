"""Whatever is written comes back: the same images, boxes and, where there is room, everything else."""

import tempfile
from pathlib import Path

import pytest
from format_records import Box, draw
from hypothesis import given, settings
from hypothesis import strategies as st

from solobox.boxes import convert, scale
from solobox.data import formats
from solobox.data.formats import Record
from solobox.data.formats.records import Layout

SIZE = (640, 480)

names = st.text(
    st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="/\\"), min_size=1, max_size=8
).filter(lambda text: text == text.strip() and not text.startswith("."))
words = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=5)


@st.composite
def boxes(draw_: st.DrawFn) -> Box:
    edge = st.floats(-50, 700, allow_subnormal=False)
    x, y = sorted(draw_(st.tuples(edge, edge))), sorted(draw_(st.tuples(edge, edge)))
    return x[0], y[0], x[1], y[1]


@st.composite
def rows(draw_: st.DrawFn) -> list[tuple[str, Box | None, dict[str, str]]]:
    images = draw_(st.lists(names, min_size=1, max_size=5, unique_by=str.casefold))
    texts = st.fixed_dictionaries(
        {
            "split": st.sampled_from(["", "train", "val", "test"]),
            "group": words,
            "label": words,
            "source": words,
        }
    )
    table = []
    for name in images:
        folder = draw_(st.sampled_from(["", "in/", "in/deeper/"]))
        table.append((f"{folder}{name}.png", draw_(st.none() | boxes()), draw_(texts)))
    return table


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("image") / "a.png", SIZE)


def make(folder: Path, table: list[tuple[str, Box | None, dict[str, str]]], image: Path) -> list[Record]:
    records = []
    for row, (name, box, texts) in enumerate(table, start=1):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(image)
        extra = {"note": texts["source"]} if texts["source"] else {}
        split, group, label, source = (texts[key] for key in ("split", "group", "label", "source"))
        records.append(Record(row, f"row {row}", name, path, box, "", label, split, group, source, extra))
    return records


def in_pixels(record: Record, layout: Layout) -> Box:
    box = convert(record.box or (), layout.order, "xyxy")
    if layout.unit == "fractions":
        box = scale(box, *SIZE)
    x1, y1, x2, y2 = box.tolist()
    return x1 - layout.first, y1 - layout.first, x2, y2


def facts(records: tuple[Record, ...] | list[Record], *keys: str) -> dict[Path, tuple[object, ...]]:
    return {each.path.resolve(): tuple(getattr(each, key) for key in keys) for each in records}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("csv", ("split", "group", "label", "source")),
        ("article", ()),
        ("coco", ("split", "group", "source")),
        ("voc", ("split",)),
        ("yolo", ()),
    ],
)
@given(table=rows())
@settings(max_examples=25, deadline=None)
def test_round_trip(
    name: str, kept: tuple[str, ...], table: list[tuple[str, Box | None, dict[str, str]]], image: Path
) -> None:
    with tempfile.TemporaryDirectory(dir=image.parent) as place:
        records = make(Path(place), table, image)
        out = Path(place) / "out" / "set"
        formats.write(out, records, name)
        found = formats.read(out)
        assert found.format == name
        assert len(found.records) == len(records)
        assert facts(found.records, *kept) == facts(records, *kept)
        if name != "yolo":  # its images come in the order of their folders
            assert [each.path.name for each in found.records] == [
                each.path.name for each in records
            ] or name == "voc"
        wanted = {each.path.resolve(): each for each in records}
        for each in found.records:
            before = wanted[each.path.resolve()]
            if before.box is None:
                assert each.box is None
            else:
                assert in_pixels(each, found.layout) == pytest.approx(before.box, abs=1e-6, rel=0)
                if name != "article":
                    assert each.label == (before.label or ("" if name == "csv" else "object"))
            if name == "yolo":
                assert each.split == (before.split or "train")


@given(table=rows())
@settings(max_examples=25, deadline=None)
def test_csv_and_article_keep_every_bit(table: list[tuple[str, Box | None, dict[str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        records = [Record(1, "", name, Path(place) / name, box) for name, box, _ in table]
        for name in ("csv", "article"):
            formats.write(Path(place) / name, records, name)
            found = formats.read(Path(place) / name).records
            assert [each.box for each in found] == [each.box for each in records]
            assert [each.path for each in found] == [each.path for each in records]
