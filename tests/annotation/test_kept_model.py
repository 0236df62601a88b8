"""The model is there again after a restart, and only where it belongs to the labels."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from folders import TRUE, draw, folder_of, learner_of, measured_by, opened, wait_until
from PIL import Image

from error_codes import has_code
from small_objects import bright_rectangles
from solobox.annotation.events import Answer
from solobox.annotation.kept_model import KeptModel
from solobox.annotation.learner import Learner
from solobox.annotation.session import Session
from solobox.config.recipe import Recipe
from solobox.errors import ConfigError
from solobox.training import checkpoint

PROGRAM = """
import os, signal, sys
from solobox.annotation import learner
from solobox.cli import app
from solobox.model import runtime
from solobox.training import checkpoint
runtime._openvino_is_installed = lambda: False
learner._QUICK, learner._STEPS = {"size": 64, "refine": "off"}, 4
def is_killed(file):
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
whole = checkpoint.replacing_bytes
class Killed:
    def __init__(self, path): self.opened = whole(path)
    def __enter__(self):
        self.file = self.opened.__enter__()
        return self
    def write(self, data):
        self.file.write(data[:len(data) // 2])
        if len(data) > 1000:
            is_killed(self.file)
    def __exit__(self, *error): return False
if sys.argv[3] == "killed":
    checkpoint.replacing_bytes = Killed
app(["annotate", sys.argv[1], "-o", sys.argv[2], "--no-browser"])
"""
"""The command with a small model, which a kill may end while it is written."""


def model_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.annotate") / "model.pt"


def drawn(photos: Path, out: Path, count: int) -> Session:
    """A session with so many labels, whose model learned from the first five of them."""
    session = opened(photos, out, learner_of(photos))
    for _ in range(count):
        draw(session)
        session.background.wait_until_idle()
    assert session.background.labels == 5
    return session


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "photos", 30)


def test_a_restart_goes_on_with_the_model_and_prepares_for_the_next(photos: Path, tmp_path: Path) -> None:
    drawn(photos, tmp_path / "labels.csv", 7).close()
    learner = learner_of(photos, std=40.0)  # a new one, which would suggest nothing
    again = opened(photos, tmp_path / "labels.csv", learner)
    again.background.wait_until_idle()
    assert (again.background.labels, learner.trained, learner.std) == (5, [], 1.0)
    task = again.next("ann")
    assert task is not None
    assert task.suggestion is not None
    assert [(len(names), of) for names, of in learner.prepared] == [(7, 7)]
    draw(again)
    again.background.wait_until_idle()
    assert len(learner.trained) == 1
    assert again.background.labels == 8
    again.close()


def test_what_is_drawn_is_prepared_before_it_is_learned(photos: Path, tmp_path: Path) -> None:
    learner = learner_of(photos)
    session = opened(photos, tmp_path / "labels.csv", learner)
    for count in range(1, 4):
        draw(session)
        session.background.wait_until_idle()
        assert len(learner.prepared[-1][0]) == count
    session.answer(session.folder.order[0], Answer(kind="absent"), person="ann", seen=1)
    draw(session)
    session.background.wait_until_idle()
    names, of = learner.prepared[-1]
    assert len(names) == of == 3
    assert session.folder.names[session.folder.order[0]] not in names
    session.close()


def test_labels_that_changed_meanwhile_are_learned(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    drawn(photos, out, 7).close()
    without = opened(photos, out)  # nothing learns
    for _ in range(3):
        draw(without)
    without.close()
    learner = learner_of(photos)
    learner.may_learn.clear()
    again = opened(photos, out, learner)
    wait_until(lambda: again.background.is_learning)
    assert again.background.labels == 5  # what was kept serves until then
    assert again.background.predict(0) is not None
    learner.may_learn.set()
    wait_until(lambda: again.background.labels == 10)
    again.close()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def another_checkpoint(path: Path) -> None:
    checkpoint.save(path, {"module": {}, "epoch": 3})


def another_version(path: Path) -> None:
    checkpoint.save(path, checkpoint.load(path) | {"format": 2})


def other_labels(path: Path) -> None:
    learned = {f"{number}.jpg": TRUE for number in range(9)}
    checkpoint.save(path, checkpoint.load(path) | {"learned": learned})


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "change", [damage, half, another_checkpoint, another_version, other_labels, a_folder]
)
def test_a_file_that_is_not_the_model_of_the_labels_is_not_used(
    photos: Path, tmp_path: Path, change: Any
) -> None:
    out = tmp_path / "labels.csv"
    drawn(photos, out, 6).close()
    change(model_of(out))
    learner = learner_of(photos, std=2.0)
    learner.may_learn.clear()
    again = opened(photos, out, learner)
    wait_until(lambda: again.background.is_learning)
    assert (again.background.labels, learner.std) == (0, 2.0)
    assert "the model of the last session is not used" in again.background.error
    learner.may_learn.set()
    wait_until(lambda: again.background.labels == 6)
    if change is not a_folder:
        again.background.wait_until_idle()
        assert not again.background.error
        assert len(checkpoint.load(model_of(out))["learned"]) == 6
    again.close()


def test_a_disk_that_is_full_is_said_and_the_model_is_used(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    model_of(out).mkdir(parents=True)  # which cannot be replaced
    session = opened(photos, out, learner_of(photos))
    for _ in range(5):
        draw(session)
    wait_until(lambda: session.background.labels == 5)
    wait_until(lambda: "model.pt" in session.background.error)
    task = session.next("ann")
    assert task is not None
    assert session.background.predict(task.index) is not None
    session.close()


# The weights ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, tuple[float, ...]]]:
    images, boxes = bright_rectangles()
    folder = tmp_path_factory.mktemp("small")
    labels = {}
    for number, (pixels, box) in enumerate(zip(images, boxes.tolist(), strict=True)):
        path = folder / f"{number:02}.png"
        Image.fromarray(pixels).save(path)
        labels[path.name] = path, tuple(box)
    return labels


@pytest.mark.usefixtures("without_openvino")
def test_both_looks_and_the_margins_are_those_before(
    small_objects: dict[str, tuple[Path, tuple[float, ...]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solobox.annotation.learner._STEPS", 4)
    recipe = Recipe.from_preset("quick", {"size": 64, "batch": 16})
    learner = Learner(recipe)
    some = dict(list(small_objects.items())[:14])
    learner.learn(some)
    learner.calibrate(measured_by(learner, list(some)[:12]))
    kept, boxes = KeptModel(tmp_path / "model.pt"), {name: (*box,) for name, (_, box) in some.items()}
    kept.save(learner, boxes)  # type: ignore[arg-type]
    again = Learner(recipe)
    assert kept.restore(again, boxes) == boxes  # type: ignore[arg-type]
    paths = [path for path, _ in list(small_objects.values())[14:]]
    for path in paths:
        before, after = learner.predict(path), again.predict(path)
        np.testing.assert_array_equal(before.box, after.box)
        np.testing.assert_array_equal(before.std, after.std)
        np.testing.assert_array_equal(before.lower, after.lower)
    assert again.localizer.calibration is not None
    assert again.localizer.architecture == learner.localizer.architecture
    learner.learn(some)
    again.learn(some)  # it learns as the first one would
    np.testing.assert_array_equal(learner.predict(paths[0]).box, again.predict(paths[0]).box)
    other = Learner(Recipe.from_preset("quick", {"size": 96, "batch": 16}))
    with pytest.raises(ConfigError, check=has_code("model-outdated")):
        kept.restore(other, boxes)  # type: ignore[arg-type]
    assert other.localizer.architecture.refinements == 0
    state = learner.state()
    del state["head"][next(iter(state["head"]))]
    checkpoint.save(tmp_path / "model.pt", {"format": 1, "learned": boxes, "model": state})
    present = again.localizer
    with pytest.raises(ConfigError, check=has_code("model-damaged")):
        kept.restore(again, boxes)  # type: ignore[arg-type]
    assert again.localizer is present


# The program ----------------------------------------------------------------------------------------------


class Page:
    """What a page asks of the program."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return json.load(response)

    def draw(self) -> None:
        task = self.ask("api/next", {"person": "ann"})
        box = {"kind": "box", "box": TRUE, "source": "drawn", "blind": task["blind"]}
        self.ask("api/answer", {"index": task["index"], "seen": task["seen"], "person": "ann", **box})

    def labels(self) -> int:
        return int(self.ask("api/state")["model"]["labels"])

    def review(self) -> list[Any]:
        """All predicted images."""
        wait_until(lambda: self.ask("api/review")["ready"] == 24)
        items: list[Any] = self.ask("api/review?count=200")["items"]
        return items


@contextmanager
def program(photos: Path, out: Path, how: str = "") -> Iterator[tuple[Page, "subprocess.Popen[str]"]]:
    command = [sys.executable, "-c", PROGRAM, str(photos), str(out), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "http://" in line:
                    yield Page(line.split()[-1]), process
                    break
            else:
                raise AssertionError("it did not begin")
        finally:
            process.kill()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills are of POSIX")
def test_the_program_suggests_what_it_did_before_also_after_a_kill_while_the_model_is_written(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.csv"
    with program(photos, out) as (page, process):
        for _ in range(6):
            page.draw()
        wait_until(lambda: page.labels() >= 5)
        first = page.review()
        learned = page.labels()
        process.send_signal(signal.SIGINT)
        process.wait(60)
    kept = model_of(out).read_bytes()
    with program(photos, out, "killed") as (page, process):
        wait_until(lambda: page.labels() == learned)
        assert page.review() == first
        assert model_of(out).read_bytes() == kept
        with suppress(URLError, ConnectionError):  # it is killed, perhaps before the last of them
            for _ in range(4):
                page.draw()
        process.wait(60)
    assert process.returncode == -signal.SIGKILL
    assert model_of(out).read_bytes() == kept
    assert list(model_of(out).parent.glob(".*.part"))
    with program(photos, out) as (page, process):
        wait_until(lambda: page.labels() >= learned + 3)
        wait_until(lambda: model_of(out).read_bytes() != kept)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert not list(model_of(out).parent.glob(".*.part"))
    assert len(checkpoint.load(model_of(out))["learned"]) >= learned + 3
