"""A run that was paused, or killed, goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_process import solobox_here

from solobox import synthetic
from solobox.cli import app
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, Paused
from solobox.model.localizer import Localizer
from solobox.training.checkpoint_manager import CheckpointManager
from solobox.training.train import train
from solobox.utils.progress import NullProgress

pytestmark = pytest.mark.usefixtures("without_openvino", "few_steps")

QUICK = {"size": 32, "crops": 2, "epochs": 3, "width": 16, "bins": 8, "batch": 16}
SMALL_BACKBONE = {"backbone": "test_efficientnet", "pretrained": "none"}
PROGRAM = """
import sys
from solobox import __main__
from solobox.config import recipe
from solobox.model import runtime
recipe._MIN_CROPS = recipe._MIN_STEPS = 1
runtime._openvino_is_installed = lambda: False
__main__.main()
"""
"""The command with what the fixtures do in this process."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return synthetic.write(tmp_path_factory.mktemp("synthetic"), 20, seed=5, size=(96, 72))


def same(a: Localizer, b: Localizer) -> None:
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


def history(localizer: Localizer) -> list[dict[str, Any]]:
    lines: Any = localizer.metadata["history"]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "schedule": "cosine", "accumulate": 2, "ema": 0.0, "epochs": 8, "patience": 2},
        {
            "epochs": 0,
            "finetune_epochs": 3,
            "finetune_lr": 0.001,
            "vectorizer": "gap",
            "head": "regression",
            "loss": "mse",
            **SMALL_BACKBONE,
        },
        {"epochs": 1, "finetune_epochs": 2, "batch": 8, "freeze": 2, "backbone_lr": 0.1, "optimizer": "adam",
         **SMALL_BACKBONE},
    ],
)  # fmt: skip
def test_resumed_is_bit_for_bit_the_same(drawn: Dataset, tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe = Recipe.from_preset("quick", QUICK | changes)
    whole = train(drawn, tmp_path / "whole", recipe)
    epochs = len(history(whole))
    assert epochs >= 3
    folder, done = tmp_path / "parts", epochs // 2
    with pytest.raises(Paused, match="--resume"):
        train(drawn, folder, recipe, stop_after=done)
    with pytest.raises(ConfigError) as error:
        train(drawn, folder, recipe)
    assert error.value.code == "run-unfinished"
    for stop_after in (epochs - 1 - done, 0):  # it is resumed twice, the second time for the last epoch
        assert not (folder / "config.json").exists()
        assert len((folder / "history.csv").read_text().splitlines()) == 1 + done
        done += stop_after
        with pytest.raises(Paused, match="--resume") if stop_after else nullcontext():
            resumed = train(drawn, folder, resume=True, stop_after=stop_after)
    same(whole, resumed)
    assert history(whole) == history(resumed)
    assert whole.metadata["best"] == resumed.metadata["best"]
    assert len((folder / "history.csv").read_text().splitlines()) == 1 + epochs
    with pytest.raises(ConfigError) as error:
        train(drawn, folder, resume=True)
    assert error.value.code == "run-finished"


class InterruptsAt(NullProgress):
    """Sends Ctrl-C to this process in the midst of an epoch."""

    def __init__(self, step: int) -> None:
        self.left = step

    def advance(self, steps: int = 1, note: str = "") -> None:
        if note:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", [1, 6])
def test_ctrl_c_in_the_midst_of_an_epoch_loses_nothing(drawn: Dataset, tmp_path: Path, step: int) -> None:
    recipe = Recipe.from_preset("quick", QUICK | {"batch": 8, "accumulate": 2, "crops": 6, "epochs": 1})
    whole = train(drawn, tmp_path / "whole", recipe)
    with pytest.raises(Paused, match="paused in epoch 1 of the head stage"):
        train(drawn, tmp_path / "parts", recipe, progress=InterruptsAt(step))
    resumed = train(drawn, tmp_path / "parts", resume=True)
    same(whole, resumed)
    assert history(whole) == history(resumed)


class InterruptsStage(NullProgress):
    """Sends Ctrl-C to this process in a step of a stage, 0 for the last one."""

    def __init__(self, stage: str, step: int) -> None:
        self.stage, self.step, self.left = stage, step, 0

    def start(self, stage: str, total: int | None) -> None:
        self.left = (self.step or total or 0) if stage == self.stage else 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        if note:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("stage", "step", "empty_share", "changes", "said"),
    [
        ("presence", 2, 0.5, {}, "paused in epoch 1 of the presence stage"),
        ("presence", 0, 0.5, {}, "paused after the head stage"),
        ("head", 0, 0.5, {}, "paused in epoch 1 of the presence stage"),
        ("head", 0, 0.0, {}, "paused after the head stage"),
        ("finetune", 0, 0.0, {"finetune_epochs": 1, **SMALL_BACKBONE}, "paused after the finetune stage"),
    ],
)
def test_ctrl_c_at_the_end_of_a_stage_pauses_too(
    tmp_path: Path, stage: str, step: int, empty_share: float, changes: dict[str, Any], said: str
) -> None:
    drawn = synthetic.write(tmp_path / "drawn", 40, seed=5, size=(96, 72), empty_share=empty_share)
    recipe = Recipe.from_preset("quick", QUICK | {"epochs": 2, "val": 0.3} | changes)
    whole = train(drawn, tmp_path / "whole", recipe)
    assert (whole.presence is not None) == (empty_share > 0)
    with pytest.raises(Paused, match=said) as paused:
        train(drawn, tmp_path / "parts", recipe, progress=InterruptsStage(stage, step))
    assert paused.value.signal == signal.SIGINT
    resumed = train(drawn, tmp_path / "parts", resume=True)
    same(whole, resumed)
    assert history(whole) == history(resumed)


def test_other_images_or_another_recipe_are_refused(drawn: Dataset, tmp_path: Path) -> None:
    recipe = Recipe.from_preset("quick", QUICK)
    with pytest.raises(ConfigError) as error:
        train(drawn, tmp_path / "run", resume=True)
    assert error.value.code == "run-missing"
    with pytest.raises(Paused):
        train(drawn, tmp_path / "run", recipe, stop_after=1)
    with pytest.raises(ConfigError) as error:
        train(drawn.select(range(15)), tmp_path / "run", resume=True)
    assert error.value.code == "resume-other-images"
    moved = drawn.boxes.copy()
    row = drawn.with_splits().split.index("train")
    moved[row, 0] += 1
    with pytest.raises(ConfigError) as error:
        train(replace(drawn, boxes=moved), tmp_path / "run", resume=True)
    assert error.value.code == "resume-other-boxes"
    assert drawn.names[row] in str(error.value)
    with pytest.raises(ConfigError) as error:
        train(drawn, tmp_path / "run", Recipe(), resume=True)
    assert error.value.code == "resume-other-recipe"


def test_a_run_killed_at_any_moment_goes_on(drawn: Dataset, tmp_path: Path) -> None:
    """The whole command, killed without warning; how often in a loop is `test_checkpoint`'s to try."""
    drawn.write(tmp_path / "labels.csv")
    words = [f"--{key}={value}" for key, value in QUICK.items()]
    first = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", str(tmp_path / "labels.csv"), "-o", str(tmp_path / "run"), *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert not (tmp_path / "run" / "config.json").exists()
    again = ["train", "--resume", str(tmp_path / "run")]
    assert not app(again, result_action="return_value", exit_on_error=False)
    whole = train(
        Dataset.read(tmp_path / "labels.csv"), tmp_path / "whole", Recipe.from_preset("quick", QUICK)
    )
    same(whole, Localizer.load(tmp_path / "run"))


IGNORING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


def test_a_run_started_with_sigint_ignored_still_pauses_and_resumes(drawn: Dataset, tmp_path: Path) -> None:
    drawn.write(tmp_path / "labels.csv")
    run = tmp_path / "run"
    words = [f"--{key}={value}" for key, value in (QUICK | {"epochs": 1000, "patience": 0}).items()]
    process = subprocess.Popen(
        [sys.executable, "-c", IGNORING, PROGRAM, "train", str(tmp_path / "labels.csv"), "-o", str(run), *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (run / "history.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "--resume" in said
    resumes(run)


def test_a_terminated_run_pauses_and_resumes(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn.write(tmp_path / "labels.csv")
    run = tmp_path / "run"
    save = CheckpointManager.save

    def terminating(*arguments: Any) -> None:
        save(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(CheckpointManager, "save", terminating)
    words = [f"--{key}={value}" for key, value in QUICK.items()]
    done = solobox_here("train", tmp_path / "labels.csv", "-o", run, *words)
    assert done.returncode == 143, done.stderr
    assert "--resume" in done.stderr
    monkeypatch.undo()
    resumes(run)


def resumes(run: Path) -> None:
    """A run that was paused goes on by one epoch."""
    assert not (run / "config.json").exists()
    epochs = len((run / "history.csv").read_text().splitlines())
    words = ["train", "--resume", str(run), "--stop-after", "1"]
    assert not app(words, result_action="return_value", exit_on_error=False)
    assert len((run / "history.csv").read_text().splitlines()) == epochs + 1
