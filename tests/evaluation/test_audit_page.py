import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_helpers import Page, parse

from solobox.data.dataset import Dataset
from solobox.errors import DataError
from solobox.evaluation.audit.label_audit import audit_labels
from solobox.evaluation.audit.page import MAX_CARDS, write_audit_page
from solobox.predict.prediction import Prediction

EVIL = "</script><script>alert('x')</script>&\u2028\"<b>.png"


def written(
    folder: Path,
    wrong: int,
    right: int = 30,
    *,
    broken: tuple[int, ...] = (),
    name: str = EVIL,
    title: str = "An audit",
) -> Path:
    """A page of `wrong` misplaced labels and `right` ones; the first wrong image has a hostile name."""
    rng = np.random.default_rng(0)
    images, labels, predictions = [], [], []
    for row in range(wrong + right):
        path = folder / f"image_{row:03}.png"
        Image.new("RGB", (80, 60), (90 + row % 60, 120, 130)).save(path)
        model = np.array([20.0, 15, 50, 45])
        noise = rng.normal(0, 0.4, 4)
        labels.append(model + (15 + row % 4 if row < wrong else 0) + noise)
        images.append(path)
        predictions.append(
            Prediction(str(path), error="is <i>broken</i>")
            if row in broken
            else Prediction(str(path), model, (80, 60), np.full(4, 1.0))
        )
    names = [name if row == 0 else image.name for row, image in enumerate(images)]
    dataset = Dataset(images, labels, names=names)
    out = folder / "audit.html"
    write_audit_page(
        out, audit_labels(dataset, predictions), dataset, title=title, data="'my data.csv' --keep first"
    )
    return out


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("audit"), 5, broken=(2,), title="An <audit>")


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return parse(path)


def audit_json(page: Page) -> dict[str, object]:
    found: dict[str, object] = json.loads(page.scripts[0])
    return found


def test_flagged_labels_and_a_few_others_are_shown_worst_first(page: Page) -> None:
    assert len(page.of("article")) == 5 + 12
    assert page.words.count("The labels below are not flagged") == 1
    shown = re.findall(r"(\d+)\. (image unreadable|[a-z ]+?) ", page.words)
    assert [int(number) for number, _ in shown][:3] == [1, 2, 3]
    assert "1. image unreadable" in page.words
    assert "5 of 35 labels disagree" in page.words
    assert "This page shows 5 of these, and 12 that are not flagged" in page.words
    assert sum("data-flagged" in a for a in page.of("article")) == 5
    assert [a["max"] for a in page.of("progress")] == ["5"]


def test_each_card_has_the_image_and_both_boxes_in_its_pixels(page: Page) -> None:
    drawings = page.of("svg")
    assert len(drawings) == 17
    assert {a["viewbox"] for a in drawings} == {"0 0 80 60"}
    for image in page.of("image"):
        head, data = (image["href"] or "").split(",", 1)
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
            assert opened.size == (80, 60)
    models = [
        a
        for a in page.of("rect")
        if (a["x"], a["y"], a["width"], a["height"]) == ("20.0", "15.0", "30.0", "30.0")
    ]
    assert len(models) == 2 * 16  # a halo and a line each; the unreadable image has none


def test_every_decision_has_a_button_and_a_key(page: Page) -> None:
    buttons = [a for a in page.of("button") if "data-choice" in a]
    assert [a["data-choice"] for a in buttons[:4]] == ["accept", "model", "drop", "empty"]
    assert len(buttons) == 4 * 17
    assert "disabled" in buttons[1]  # the worst one has no predicted box
    assert not any("disabled" in a for a in buttons[4:])
    script = page.scripts[1]
    for key, choice in {"a": "accept", "m": "model", "d": "drop", "e": "empty"}.items():
        assert f'{key}: "{choice}"' in script
    for word in (
        '"keydown"',
        '"j"',
        '"k"',
        '"u"',
        '"s"',
        '"b"',
        "localStorage",
        "decisions.json",
        "audit.format",
    ):
        assert word in script
    assert all(a["aria-pressed"] == "false" for a in buttons)


def test_the_page_contains_the_data_of_the_decisions(page: Page) -> None:
    data = audit_json(page)
    assert data["format"] == "solobox audit decisions 1"
    assert data["data"] == "'my data.csv' --keep first"
    items = data["items"]
    assert isinstance(items, list)
    assert EVIL in [item["image"] for item in items]
    assert items[0]["model"] is None
    assert len(items[1]["label"]) == len(items[1]["model"]) == 4


def test_the_page_loads_nothing(page: Page, path: Path) -> None:
    text = path.read_text("utf-8")
    assert "://" not in text
    assert not page.of("link") + page.of("iframe") + page.of("base") + page.of("img")
    for tag, attributes in page.tags:
        assert not (tag == "script" and "src" in attributes)
        for key in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(key)
            assert value is None or value.startswith("data:image/jpeg")
    assert "fetch(" not in text
    assert "import(" not in text


def test_the_policy_allows_only_the_script_of_the_page(page: Page) -> None:
    (policy,) = [
        a["content"] or "" for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_names_are_escaped(page: Page) -> None:
    assert len(page.of("script")) == len(page.scripts) == 2
    assert not page.of("b")
    assert EVIL in page.text
    assert "is <i>broken</i>" in page.text
    assert "An <audit>" in page.text


def test_names_that_are_not_utf_8_reach_the_decisions_unchanged(tmp_path: Path) -> None:
    page = parse(written(tmp_path, 2, name="bad_\udcff.png"))
    items = audit_json(page)["items"]
    assert isinstance(items, list)
    assert "bad_\udcff.png" in [item["image"] for item in items]
    assert "bad_?.png" in page.text


def test_the_page_adapts_to_a_phone_and_to_dark_mode(page: Page, path: Path) -> None:
    viewport = next(m for m in page.of("meta") if m.get("name") == "viewport")
    assert "width=device-width" in (viewport["content"] or "")
    assert "prefers-color-scheme: dark" in path.read_text("utf-8")
    assert page.of("html")[0]["lang"] == "en"


def test_ids_are_unique(page: Page) -> None:
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids)) > 20


def test_the_page_is_deterministic_and_has_one_storage_key_per_audit(tmp_path: Path) -> None:
    first = written(tmp_path, 3).read_bytes()
    key = audit_json(parse(tmp_path / "audit.html"))["key"]
    assert written(tmp_path, 3).read_bytes() == first
    written(tmp_path, 4)
    assert audit_json(parse(tmp_path / "audit.html"))["key"] != key


def test_the_page_says_how_many_flagged_labels_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_CARDS > 100
    monkeypatch.setattr("solobox.evaluation.audit.page.MAX_CARDS", 6)
    page = parse(written(tmp_path, 8))
    assert len(page.of("article")) == 6
    assert "2 more flagged labels are not on this page" in page.words
    assert "8 of 38 labels disagree" in page.words
    assert "This page shows 6 of these." in page.words
    assert [a["max"] for a in page.of("progress")] == ["6"]


def test_an_empty_audit_makes_a_page(tmp_path: Path) -> None:
    dataset = Dataset([], [])
    write_audit_page(tmp_path / "a.html", audit_labels(dataset, []), dataset, title="None", data="d.csv")
    page = parse(tmp_path / "a.html")
    assert "There is nothing to show" in page.words
    assert not page.of("button")


def test_a_missing_image_is_mentioned_and_not_fatal(tmp_path: Path) -> None:
    out = written(tmp_path, 2)
    shown = len(parse(out).of("svg"))
    dataset = Dataset([tmp_path / "gone.png"], [[1, 1, 9, 9]])
    found = audit_labels(dataset, [Prediction("gone", np.array([1.0, 1, 9, 9]), (20, 20), np.ones(4))])
    write_audit_page(out, found, dataset, title="x", data="d.csv")
    page = parse(out)
    assert "This image cannot be read" in page.words
    assert len(page.of("svg")) == 0 < shown


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "audit.html").mkdir()
    with pytest.raises(DataError, match=r"audit\.html: cannot be written"):
        written(tmp_path, 1)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
