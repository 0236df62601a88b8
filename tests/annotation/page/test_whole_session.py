"""A whole session in a real browser: mouse, keyboard and touch, a kill in the middle, and a model at the end."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

import solobox
from browser import chromium, needs_chromium
from solobox import synthetic
from solobox.annotation.finish import Plan
from solobox.boxes import iou
from solobox.data.dataset import Dataset
from solobox.images.reading import probe

pytestmark = needs_chromium

IMAGES = 60


@contextmanager
def annotating(folder: Path, out: Path, said: list[str]) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The program and the address of its page; killed at the end, if it still runs."""
    command = [sys.executable, "-m", "solobox", "annotate", str(folder), "-o", str(out), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if address := re.search(r"http://\S+", line):
                break
        else:
            raise AssertionError(said)
        try:
            yield address[0], process
        finally:
            process.kill()


class Person:
    """Knows the true boxes, and gives them to the page by one device after the other."""

    def __init__(self, page: Any, true: Dataset, names: list[str]) -> None:
        self.page, self.true, self.names = page, true, names
        self.client = page.context.new_cdp_session(page)

    def shown(self) -> int:
        index = self.page.get_attribute("#stage", "data-shown")
        return int(index)

    def corners(self) -> tuple[float, float, float, float]:
        """The true box of the image on the page, on the screen: the whole image is shown."""
        row = list(self.true.names).index(self.names[self.shown()])
        box = self.true.boxes[row]
        width, height = self.true_size(row)
        frame = self.page.locator("#canvas").bounding_box()
        margin = 14
        scale = min((frame["width"] - 2 * margin) / width, (frame["height"] - 2 * margin) / height)
        left = frame["x"] + (frame["width"] - width * scale) / 2
        top = frame["y"] + (frame["height"] - height * scale) / 2
        x1, y1, x2, y2 = box.tolist()
        return left + x1 * scale, top + y1 * scale, left + x2 * scale, top + y2 * scale

    def true_size(self, row: int) -> tuple[int, int]:
        width, height = probe(self.true.paths[row]).size
        return width, height

    def by_mouse(self) -> None:
        x1, y1, x2, y2 = self.corners()
        self.page.keyboard.down("Shift")  # a new box, also over a suggestion
        self.page.mouse.move(x1, y1)
        self.page.mouse.down()
        self.page.mouse.move((x1 + x2) / 2, (y1 + y2) / 2)
        self.page.mouse.move(x2, y2)
        self.page.mouse.up()
        self.page.keyboard.up("Shift")
        self.page.click("#accept")

    def by_keyboard(self) -> None:
        """The suggested box, or one in the middle, moved and resized with arrows."""
        self.page.keyboard.press("b")
        row = list(self.true.names).index(self.names[self.shown()])
        x1, y1, x2, y2 = self.true.boxes[row].round().tolist()
        width, height, left, top = self.box()
        self.steps(x1 - left, "ArrowRight", "ArrowLeft")
        self.steps(y1 - top, "ArrowDown", "ArrowUp")
        self.steps(x2 - x1 - width, "Alt+ArrowRight", "Alt+ArrowLeft")
        self.steps(y2 - y1 - height, "Alt+ArrowDown", "Alt+ArrowUp")
        self.page.keyboard.press("Enter")

    def box(self) -> list[float]:
        """Width, height, x and y, as the page says them."""
        return [float(number) for number in re.findall(r"\d+", str(self.page.text_content("#box-text")))]

    def steps(self, distance: float, forth: str, back: str) -> None:
        tens, ones = divmod(round(abs(distance)), 10)
        key = forth if distance > 0 else back
        for _ in range(tens):
            self.page.keyboard.press(f"Shift+{key}")
        for _ in range(ones):
            self.page.keyboard.press(key)

    def by_touch(self) -> None:
        x1, y1, x2, y2 = self.corners()
        self.page.click("#clear")
        steps = [(x1, y1), ((x1 + x2) / 2, (y1 + y2) / 2), (x2, y2)]
        for number, (x, y) in enumerate(steps):
            kind = "touchMove" if number else "touchStart"
            self.client.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": 0}]}
            )
        self.client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        self.page.tap("#accept")

    def answers(self, count: int, how: str) -> None:
        for _ in range(count):
            before = self.shown()
            getattr(self, how)()
            end = time.monotonic() + 30
            while self.page.get_attribute("#stage", "data-shown") in {None, "", str(before)}:
                assert time.monotonic() < end, self.page.text_content("#error")
                self.page.wait_for_timeout(20)

    def until(self, identity: str, words: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while words not in str(self.page.text_content(f"#{identity}")):
            assert time.monotonic() < end, self.page.text_content(f"#{identity}")
            self.page.wait_for_timeout(100)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Models small enough to be trained in a test: the one behind the page is a fair one, the final one is not."""
    monkeypatch.setattr("solobox.annotation.learner._QUICK", {"size": 128, "batch": 16, "refine": "off"})
    torch.save(
        timm.create_model("test_efficientnet", pretrained=False).state_dict(), tmp_path / "weights.pth"
    )
    commands = Plan.commands

    def short(plan: Plan) -> list[list[str]]:
        train, *others = commands(plan)
        train += ["--size", "64", "--crops", "1", "--epochs", "1", "--width", "16", "--batch", "4"]
        return [
            [*train, "--backbone", "test_efficientnet", "--pretrained", str(tmp_path / "weights.pth")],
            *others,
        ]

    monkeypatch.setattr(Plan, "commands", short)


@pytest.mark.usefixtures("small", "without_openvino")
def test_from_unlabelled_images_to_a_model_that_labels_the_rest(tmp_path: Path) -> None:
    true = synthetic.write(tmp_path / "truth", IMAGES, seed=5, size=(320, 240))
    photos, out = tmp_path / "truth" / "images", tmp_path / "labels.csv"
    names = sorted(path.name for path in photos.iterdir())
    true = Dataset(true.images, true.boxes, names=[path.name for path in true.paths])
    said: list[str] = []
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1200, "height": 900}, has_touch=True)
        page = context.new_page()
        with annotating(photos, out, said) as (address, process):
            page.goto(address)
            page.wait_for_selector("#stage[data-shown]")
            person = Person(page, true, names)
            person.answers(9, "by_mouse")
            process.kill()  # at any moment
        assert len(list(open_answers(out))) == 9
        with solobox.annotate(photos, out) as again:
            page.goto(again.address)
            page.wait_for_selector("#stage[data-shown]")
            person.until("labelled", "9", 10)
            person.answers(6, "by_touch")
            person.until("model", "Learned from", 120)
            person.answers(5, "by_keyboard")
            page.keyboard.press("r")
            person.until("pages", "1 – 24 of", 120)
            page.click(".crop >> nth=0")  # which leaves it out
            page.click("#accept-page")
            person.until("review-status", "Saved: 23 accepted", 60)
            page.keyboard.press("Escape")
            page.check("#predicted")
            page.click("#train")
            person.until("finish-state", "Done", 400)
            assert "solobox predict" in str(page.text_content("#commands"))
    labels = Dataset.read(out)
    assert len(labels) == IMAGES
    assert labels.source.count("predicted") == IMAGES - 20 - 23
    assert labels.source.count("accepted") >= 23
    drawn = [row for row, source in enumerate(labels.source) if source == "drawn"]
    assert len(drawn) >= 15
    order = {path.name: row for row, path in enumerate(true.paths)}
    boxes = np.stack([true.boxes[order[path.name]] for path in labels.paths])
    accepted, predicted = (
        [row for row, source in enumerate(labels.source) if source == name]
        for name in ("accepted", "predicted")
    )
    assert np.asarray(iou(labels.boxes[accepted], boxes[accepted])).mean() > 0.5
    exported = solobox.load(tmp_path / "labels-model.onnx")
    found = np.stack([each.box for each in exported.predict([labels.paths[row] for row in predicted])])
    np.testing.assert_allclose(labels.boxes[predicted], found, atol=0.1)


def open_answers(out: Path) -> list[str]:
    return (out.with_name(f"{out.name}.annotate") / "events.jsonl").read_text().splitlines()
