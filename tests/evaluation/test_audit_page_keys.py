"""The audit page in a browser: decisions by keyboard, and undoing them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser import chromium, needs_chromium, new_page
from solobox.data.dataset import Dataset
from solobox.evaluation.audit.decisions import Choice, read_decisions
from solobox.evaluation.audit.label_audit import audit_labels
from solobox.evaluation.audit.page import write_audit_page
from solobox.predict.prediction import Prediction

pytestmark = needs_chromium

WRONG, RIGHT = 4, 30


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def audit_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four flagged labels and twelve that are not."""
    folder = tmp_path_factory.mktemp("audit")
    rng = np.random.default_rng(0)
    box = np.array([20.0, 15, 50, 45])
    paths = [folder / f"{row:02}.png" for row in range(WRONG + RIGHT)]
    for path in paths:
        Image.new("RGB", (80, 60), (90, 120, 130)).save(path)
    labels = [box + (15 if row < WRONG else 0) + rng.normal(0, 0.4, 4) for row in range(len(paths))]
    dataset = Dataset(paths, labels)
    found = audit_labels(dataset, [Prediction(str(path), box, (80, 60), np.ones(4)) for path in paths])
    assert len(found.flagged) == WRONG
    write_audit_page(folder / "audit.html", found, dataset, title="Audit", data="d.csv")
    return folder / "audit.html"


@pytest.fixture
def page(browser: Any, audit_page: Path) -> Iterator[Any]:
    """The page, opened anew, without errors."""
    wrong: list[str] = []
    with new_page(browser, wrong) as opened:
        opened.goto(audit_page.as_uri())
        yield opened
    assert wrong == []


def press(page: Any, keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def decided(page: Any) -> dict[int, str]:
    """The decision of each card that has one, by its number from 0."""
    pressed = page.evaluate(
        """() => [...document.querySelectorAll('button[aria-pressed="true"]')].map(
            (each) => [Number(each.closest('article').dataset.item), each.dataset.choice])"""
    )
    return dict(pressed)


def current(page: Any) -> int:
    return int(page.evaluate("() => document.querySelector('article.current').dataset.item"))


def test_undo_takes_back_the_last_decision(page: Any) -> None:
    press(page, "ae")
    assert (decided(page), current(page)) == ({0: "accept", 1: "empty"}, 2)
    press(page, "u")
    assert (decided(page), current(page)) == ({0: "accept"}, 1)
    press(page, "u")
    assert (decided(page), current(page)) == ({}, 0)
    press(page, "u")
    assert (decided(page), current(page)) == ({}, 0)


def test_undo_is_of_the_last_decision_wherever_the_cursor_is(page: Any) -> None:
    press(page, "ad")  # 0 accept, 1 drop
    press(page, "kkm")  # 0 model in place of accept
    press(page, "jjjjj")
    press(page, "u")
    assert (decided(page), current(page)) == ({0: "accept", 1: "drop"}, 0)
    press(page, "jjjjj")
    press(page, "u")
    assert (decided(page), current(page)) == ({0: "accept"}, 1)


def test_undo_takes_back_a_click_too(page: Any) -> None:
    press(page, "aa")
    page.click("#item-1 button[data-choice=accept]")  # presses it out
    assert decided(page) == {1: "accept"}
    press(page, "u")
    assert (decided(page), current(page)) == ({0: "accept", 1: "accept"}, 0)
    press(page, "a")  # the same again is no decision
    press(page, "u")
    assert decided(page) == {0: "accept"}


def test_any_decisions_are_undone_in_reverse(page: Any) -> None:
    rng = np.random.default_rng(0)
    states = [decided(page)]
    for key in rng.choice(list("amdejk"), 40):
        press(page, key)
        if decided(page) != states[-1]:
            states.append(decided(page))
    assert len(states) > 15
    for state in states[-2::-1]:
        press(page, "u")
        assert decided(page) == state


def test_decisions_and_undo_outlive_a_reload(page: Any) -> None:
    press(page, "ade")
    page.reload()
    assert decided(page) == {0: "accept", 1: "drop", 2: "empty"}
    press(page, "uu")
    assert decided(page) == {0: "accept"}
    page.reload()
    assert decided(page) == {0: "accept"}


def test_what_is_undone_is_not_saved(page: Any, tmp_path: Path) -> None:
    press(page, "aeud")
    with page.expect_download() as download:
        press(page, "s")
    download.value.save_as(tmp_path / "decisions.json")
    assert [each.choice for each in read_decisions(tmp_path / "decisions.json")] == [
        Choice.ACCEPT,
        Choice.DROP,
    ]
    assert len(json.loads((tmp_path / "decisions.json").read_text())["decisions"]) == 2


def test_the_counts_are_those_of_the_heading(page: Any) -> None:
    def state() -> str:
        return str(page.evaluate("() => document.getElementById('state').textContent"))

    assert "4 of 34 labels disagree" in page.inner_text("header")
    assert state() == "0 of 4 flagged labels decided, 0 of 12 labels not flagged"
    press(page, "aaaaa")
    assert state() == "4 of 4 flagged labels decided, 1 of 12 labels not flagged"
    assert page.evaluate("() => document.getElementById('progress').value") == 4
