import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.config.architecture import Architecture
from solobox.model.diagram import diagram, format_count, format_shape
from solobox.model.summary import Row, Summary, meta_localizer, summarize

SVG = "{http://www.w3.org/2000/svg}"


def row(name: str, *outputs: tuple[int, ...], depth: int = 1, description: str = "some_net") -> Row:
    return Row(name, name.rpartition(".")[2], depth, "Thing", description, outputs, 1000, 1000, 2_000_000)


def by_hand(*rows: Row, architecture: Architecture | None = None) -> Summary:
    return Summary(
        architecture or Architecture(), (3, 320, 320), rows, 3_552_068, 3_552_068, 830_814_080, 14_368_808
    )


def words(svg: str) -> list[str]:
    """All texts of a drawing; it must be XML."""
    root = ET.fromstring(svg)  # noqa: S314 (our own)
    assert root.tag == f"{SVG}svg"
    return [element.text or "" for element in root.iter(f"{SVG}text")]


BACKBONE = row("backbone", (64, 20, 20), (128, 10, 10))


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, ["4 distributions over", "80 positions", "4 sequences of", "10 × 32 numbers"]),
        ({"vectorizer": "gap", "head": "regression"}, ["512 numbers", "16 → 4 numbers", "no parameters"]),
        ({"vectorizer": "flatten", "head": "regression"}, ["8,192 numbers", "16 → 4 numbers"]),
        ({"vectorizer": "gap", "head": "distribution"}, ["512 numbers", "80 positions"]),
    ],
)
def test_every_module_and_every_shape_is_named(changes: dict[str, Any], texts: list[str]) -> None:
    options: dict[str, Any] = {"backbone": "resnet18", "size": 128, "width": 16, "bins": 8}
    summary = summarize(meta_localizer(Architecture(**(options | changes))))
    drawn = words(diagram(summary))
    for text in ("image", "backbone", "vectorizer", "head", "box", "resnet18", "shape 3 × 128 × 128", *texts):
        assert text in drawn
    for row in summary.to_depth(1):
        for shape in row.outputs:
            assert format_shape(shape) in " ".join(drawn)


@pytest.mark.parametrize(
    ("vectorizer", "read"), [("gap", ["128 × 10 × 10"]), ("edges", ["64 × 20 × 20", "128 × 10 × 10"])]
)
def test_a_block_for_each_resolution_and_those_that_are_read_stand_out(
    vectorizer: Any, read: list[str]
) -> None:
    stages = [
        row("backbone.stem", (32, 160, 160), depth=2), row("backbone.a", (48, 20, 20), depth=2),
        row("backbone.b", (64, 20, 20), depth=2), row("backbone.c", (128, 10, 10), depth=2),
    ]  # fmt: skip
    architecture = Architecture(vectorizer=vectorizer, strides=(16, 32))
    svg = diagram(
        by_hand(BACKBONE, *stages, row("vectorizer", (128,)), row("head", (4,)), architecture=architecture)
    )
    assert [word for word in words(svg) if re.fullmatch(r"\d+ maps", word)] == [
        "32 maps",
        "64 maps",
        "128 maps",
    ]
    assert re.findall(r"<title>([^<]*): read", svg) == read


def test_an_unknown_module_is_drawn_by_the_shapes_of_its_outputs() -> None:
    rows = (BACKBONE, row("more", (7, 5, 5)), row("vectorizer", (3, 3)), row("head", (4,)))
    assert {"more", "7 maps", "5 × 5", "3 × 3", "4 numbers"} <= set(words(diagram(by_hand(*rows))))


@pytest.mark.parametrize("odd", ["<script>\"&'</svg>", "a\x00b\x1b\ud800c", "]]>", "größer × 模型"])
def test_odd_names_stay_text(odd: str) -> None:
    svg = diagram(by_hand(row("backbone", (9, 20, 20), description=odd), row("head", (4,))), odd)
    svg.encode("utf-8")
    assert (
        words(svg).count(re.sub(r"[\x00\x1b\ud800]", "\ufffd", odd)) == 2
    )  # the title, and below the backbone


def test_it_needs_nothing_from_elsewhere() -> None:
    svg = diagram(by_hand(BACKBONE, row("vectorizer", (5,)), row("head", (4,))))
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert "href" not in svg


def test_all_is_within_the_frame() -> None:
    svg = diagram(summarize(meta_localizer(Architecture(backbone="vgg16", size=224, vectorizer="gap"))))
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
    assert format_count(number) == text


@given(st.integers(0, 10**12))
def test_a_short_count_is_off_by_half_a_percent_at_most(number: int) -> None:
    digits, _, unit = format_count(number).partition(" ")
    value = float(digits) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
    assert abs(value - number) <= 0.00501 * number
    assert unit == "G" or len(digits.replace(".", "")) <= 3
