"""One process trains in a folder at a time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from solobox import synthetic
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, Paused
from solobox.training.run_folder import CHECKPOINT, LOCK, locked
from solobox.training.train import train
from solobox.utils.progress import NullProgress

pytestmark = pytest.mark.usefixtures("without_openvino", "few_steps")

SMALL: dict[str, Any] = {"size": 64, "crops": 2, "epochs": 2, "width": 16, "bins": 8, "batch": 32}

HOLDER = """
import sys
from pathlib import Path
from solobox.training.run_folder import locked
with locked(Path(sys.argv[1]), resume=sys.argv[2] == "resume"):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return synthetic.write(tmp_path_factory.mktemp("synthetic"), 24, seed=5, size=(96, 72))


@contextmanager
def another(folder: Path, how: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that trains in the folder, as far as the lock goes."""
    command = [sys.executable, "-c", HOLDER, str(folder), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_training_is_refused_until_the_first_one_ends(drawn: Dataset, tmp_path: Path) -> None:
    recipe = Recipe.from_preset("quick", SMALL)
    with another(tmp_path, "new") as process:
        with pytest.raises(ConfigError) as error:
            train(drawn, tmp_path, recipe)
        assert error.value.code == "run-in-use"
        assert not (tmp_path / CHECKPOINT).exists()
        process.kill()  # no farewell: the lock dies with its process
        process.wait(60)
        with pytest.raises(Paused):
            train(drawn, tmp_path, recipe, stop_after=1)
    with another(tmp_path, "resume"):
        before = (tmp_path / CHECKPOINT).read_bytes()
        with pytest.raises(ConfigError) as error:
            train(drawn, tmp_path, resume=True)
        assert error.value.code == "run-in-use"
        assert (tmp_path / CHECKPOINT).read_bytes() == before
    train(drawn, tmp_path, resume=True)
    assert not (tmp_path / LOCK).exists()


def test_what_another_did_before_the_lock_counts(tmp_path: Path) -> None:
    """A training that ended between the check of the folder and the lock is not overwritten."""
    (tmp_path / CHECKPOINT).write_bytes(b"")
    with pytest.raises(ConfigError) as error, locked(tmp_path, resume=False):
        pass
    assert error.value.code == "run-unfinished"
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError) as error, locked(tmp_path, resume=True):
        pass
    assert error.value.code == "run-finished"
    (tmp_path / "config.json").unlink()
    with locked(tmp_path, resume=True), pytest.raises(ConfigError) as error, locked(tmp_path, resume=True):
        pass
    assert error.value.code == "run-in-use"


class Listening(NullProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(("count", "warned"), [(1, True), (3, True), (4, False)])
def test_training_on_a_few_images_says_what_that_is_worth(
    drawn: Dataset, tmp_path: Path, count: int, warned: bool
) -> None:
    images = drawn.positives()[: count + 2]
    split = Dataset(images.images, images.boxes, split=["val", "val", *["train"] * count])
    progress = Listening()
    train(split, tmp_path, Recipe.from_preset("quick", SMALL | {"epochs": 1}), progress=progress)
    assert any("worth little" in line for line in progress.said) == warned


def test_without_progress_that_is_a_warning_of_python(drawn: Dataset, tmp_path: Path) -> None:
    images = drawn.positives()[:4]
    split = Dataset(images.images, images.boxes, split=["val", "val", "train", "train"])
    with pytest.warns(UserWarning, match="2 images with a box: .* worth little") as warned:
        train(split, tmp_path, Recipe.from_preset("quick", SMALL | {"epochs": 1}))
    assert warned[0].filename == __file__
