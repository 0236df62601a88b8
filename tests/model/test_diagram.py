import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.config.architecture import Architecture
from solobox.model.diagram import diagram, shaped, short
from solobox.model.summary import Row, Summary, outline, summarize

SVG = "{http://www.w3.org/2000/svg}"


def part(name: str, kind: str, *outputs: tuple[int, ...], depth: int = 1, of: str = "Thing") -> Row:
    return Row(name, name.rpartition(".")[2], depth, of, kind, outputs, 1000, 1000, 2_000_000)


def by_hand(*rows: Row) -> Summary:
    return Summary(Architecture(), (3, 320, 320), rows, 3_552_068, 3_552_068, 830_814_080, 14_368_808)


def words(svg: str) -> list[str]:
    """All texts of a drawing; it must be XML."""
    root = ET.fromstring(svg)  # noqa: S314 (our own)
    assert root.tag == f"{SVG}svg"
    return [element.text or "" for element in root.iter(f"{SVG}text")]


BACKBONE = part("backbone", "some_net", (64, 20, 20), (128, 10, 10), of="Backbone")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ["4 curves, each over", "80 positions", "4 sequences of", "10 × 32 numbers"]),
        ({"vectorizer": "gap", "head": "regression"}, ["512 numbers", "16 → 4 numbers", "nothing to learn"]),
        ({"vectorizer": "flatten", "head": "regression"}, ["8,192 numbers", "16 → 4 numbers"]),
        ({"vectorizer": "gap", "head": "distribution"}, ["512 numbers", "80 positions"]),
    ],
)
def test_every_part_and_every_shape_is_named(changes: dict[str, Any], says: list[str]) -> None:
    options: dict[str, Any] = {"backbone": "resnet18", "size": 128, "width": 16, "bins": 8}
    summary = summarize(outline(Architecture(**(options | changes))))
    found = words(diagram(summary))
    for name in ("image", "backbone", "vectorizer", "head", "box", "resnet18", *says):
        assert name in found
    whole = " ".join(found)
    for row in summary.to_depth(1):
        for shape in row.outputs:
            assert shaped(shape) in whole
    assert "shape 3 × 128 × 128" in found


def test_a_block_for_each_size_of_map_and_those_that_are_read_stand_out() -> None:
    stages = [
        part("backbone.stem", "c", (32, 160, 160), depth=2), part("backbone.a", "c", (48, 20, 20), depth=2),
        part("backbone.b", "c", (64, 20, 20), depth=2), part("backbone.c", "c", (128, 10, 10), depth=2),
    ]  # fmt: skip
    head = part("head", "k", (4,), of="RegressionHead")
    gap = diagram(by_hand(BACKBONE, *stages, part("vectorizer", "v", (128,), of="Gap"), head))
    edges = diagram(by_hand(BACKBONE, *stages, part("vectorizer", "v", (4, 22, 9), of="Edges"), head))
    assert [word for word in words(gap) if re.fullmatch(r"\d+ maps", word)] == [
        "32 maps",
        "64 maps",
        "128 maps",
    ]
    assert re.findall(r"<title>([^<]*): read", gap) == ["128 × 10 × 10"]
    assert re.findall(r"<title>([^<]*): read", edges) == ["64 × 20 × 20", "128 × 10 × 10"]


def test_a_part_of_ones_own_is_drawn_by_what_it_gives() -> None:
    found = words(
        diagram(
            by_hand(
                BACKBONE, part("extra", "more", (7, 5, 5)), part("vectorizer", "odd", (3, 3)),
                part("head", "boxes", (4,)),
            )
        )
    )  # fmt: skip
    assert {"extra", "7 maps", "5 × 5", "Odd.", "3 × 3", "4 numbers"} <= set(found)


@pytest.mark.parametrize("odd", ["<script>\"&'</svg>", "a\x00b\x1b\ud800c", "]]>", "größer × 模型"])
def test_odd_names_stay_text(odd: str) -> None:
    rows = [part("backbone", odd, (9, 20, 20)), part("vectorizer", odd, (9,)), part("head", odd, (4,))]
    svg = diagram(by_hand(*rows), odd)
    svg.encode("utf-8")
    shown = re.sub(r"[\x00\x1b\ud800]", "\ufffd", odd)
    assert words(svg).count(shown) == 4  # the title and below each part's name
    root = ET.fromstring(svg)  # noqa: S314 (our own)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "desc", "g", "rect", "text", "path", "polyline", "polygon", "circle"
    }  # fmt: skip


def test_it_needs_nothing_from_elsewhere() -> None:
    svg = diagram(by_hand(BACKBONE, part("vectorizer", "v", (5,)), part("head", "h", (4,))))
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert "href" not in svg


def test_all_is_within_the_frame() -> None:
    svg = diagram(summarize(outline(Architecture(backbone="vgg16", size=224, vectorizer="gap"))))
    root = ET.fromstring(svg)  # noqa: S314 (our own)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    cards = [e for e in root.iter(f"{SVG}rect") if e.get("rx") == "10"]
    assert len(cards) == 5
    for card in cards:
        assert 0 < float(card.attrib["x"]) < float(card.attrib["x"]) + float(card.attrib["width"]) < width
        assert 0 < float(card.attrib["y"]) < float(card.attrib["y"]) + float(card.attrib["height"]) < height
    left, right = (float(cards[1].attrib["x"]), float(cards[2].attrib["x"]))
    points = [point for e in root.iter(f"{SVG}polygon") for point in e.attrib["points"].split()]
    assert len(points) == 6 * 3 * 4
    for point in points:
        x, y = map(float, point.split(","))
        assert left < x < right
        assert float(cards[1].attrib["y"]) + 40 < y < float(cards[1].attrib["y"]) + 66 + 150 + 1


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (12_345, "12.3 k"), (999_600, "1.00 M"), (99_960, "100 k"),
     (830_814_080, "831 M"), (1_813_561_344, "1.81 G")],
)  # fmt: skip
def test_counts_in_three_digits(number: int, text: str) -> None:
    assert short(number) == text


@given(st.integers(0, 10**12))
def test_a_short_count_is_off_by_half_a_percent_at_most(number: int) -> None:
    digits, _, unit = short(number).partition(" ")
    value = float(digits) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
    assert abs(value - number) <= 0.00501 * number
    assert unit == "G" or len(digits.replace(".", "")) <= 3
