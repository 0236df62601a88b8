"""What the README shows must run as it stands there."""

import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import timm
import torch
from command_process import solobox

from solobox import synthetic
from solobox.cli import _COMMANDS
from solobox.predict.video.clip_writer import write_clip

SMALL = [
    "--size", "64", "--crops", "1", "--epochs", "1", "--width", "16", "--batch", "4", "--backbone", "test_efficientnet",
    "--pretrained", "weights.pth",
]  # fmt: skip
"""Of a bad model, quickly: the recipe itself is trained in tests/real, and its backbone below, in Python."""

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README's examples use."""
    path = tmp_path_factory.mktemp("readme")
    dataset = synthetic.write(path, 40, seed=2, size=(128, 96))
    (path / "annotations.csv").rename(path / "labels.csv")
    (path / "photos").mkdir()
    shutil.copy(dataset.paths[0], path / "photos" / "one.jpg")
    weights = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    torch.save(weights, path / "weights.pth")
    with write_clip(path / "clip.mp4", Fraction(10), Fraction(1, 10)) as clip:
        for number in range(3):
            clip.add(synthetic.draw(number, (96, 64)).pixels, number / 10)
    return path


def test_the_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    lines = re.findall(r"^    (solobox .*?)(?:  +#.*)?$", README, flags=re.MULTILINE)
    # The server and the page run until they are stopped: tests/serve, tests/annotation.
    assert lines.pop() == "solobox serve model.onnx"
    assert lines.pop(0) == "solobox annotate photos/ -o labels.csv"
    commands = ["check", "train", "evaluate", "predict", "export", "predict", "predict"]
    assert [shlex.split(line)[1] for line in lines] == commands
    for line in lines:
        done = solobox(*shlex.split(line)[1:], *(SMALL if " train " in line else []), brief=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    for name in ("report.html", "boxes.csv", "drawn/one.jpg", "model.onnx", "track.csv", "drawn.mp4"):
        assert (folder / name).stat().st_size > 0


def test_the_commands_for_several_devices(folder: Path) -> None:
    """As docs/howto/cluster.md has them, but for two processes on a CPU and a small model."""
    text = (ROOT / "docs" / "howto" / "cluster.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\$ ((?:solobox|torchrun) .*(?:--devices|--nproc-per-node).*)$", text, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        shutil.rmtree(folder / "run", ignore_errors=True)
        program, *words = shlex.split(line)
        words = ["2" if word == "4" else word for word in words]
        done = subprocess.run(
            [Path(sys.executable).with_name(program), *words, "--accelerator", "cpu", *SMALL],
            cwd=folder, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        # Two processes, of which one speaks.
        assert done.stdout.count("validation images") == 1
        assert done.stderr.count("test images were not used") == 1
        config = json.loads((folder / "run" / "config.json").read_text())
        assert config["recipe"]["devices"] == (2 if "--devices" in words else 0)


def test_the_python(folder: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    shutil.rmtree(folder / "run", ignore_errors=True)
    short = """import functools, solobox
from solobox.config import recipe
recipe._MIN_STEPS = 1
solobox.train = functools.partial(solobox.train, crops=1, size=64, batch=4)
"""
    done = subprocess.run(
        [sys.executable, "-c", short + code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    iou, box, again = done.stdout.strip().splitlines()[-3:]
    assert 0 <= float(iou) <= 1
    assert (folder / "one.png").stat().st_size > 0
    numbers = [[float(number) for number in text.strip("[]").split()] for text in (box, again)]
    assert len(numbers[0]) == 4
    assert numbers[1] == pytest.approx(numbers[0], abs=0.02)


def test_every_setting_that_it_names_exists() -> None:
    from solobox.config.recipe import OPTIONS

    known = set(OPTIONS)
    for command in _COMMANDS:
        function = getattr(importlib.import_module(f"solobox.cli.{command}"), command)
        for name, parameter in inspect.signature(function).parameters.items():
            known |= {name, f"no-{name}"} if parameter.default is True else {name}
    options = {f"--{name.replace('_', '-')}" for name in known} | {"--help", "--json", "--with"}
    options.add("--open")  # of the parameter `open_page`, since `open` is Python's own
    options |= {"--nproc-per-node", "--ntasks-per-node"}  # torchrun's and SLURM's
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", README))
    assert named <= options, named - options
