"""What the documentation shows runs as it stands there.

Python is executed; of the console, `solobox` commands are, in this process, on drawn images and with the model that
the tutorial trains (small, quickly, badly). Commands that train for long, run until they are stopped or need what is
not here are parsed by the real program, so that no option is unknown and none conflict. Programs of others are not run,
nor is Python in blocks of `py`, which needs a hub or MLflow: tests/hub and tests/mlflow_model have stand-ins.
"""

import functools
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from command_process import solobox_here
from cyclopts import CycloptsError
from sybil import Example, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

import solobox
from solobox import synthetic
from solobox.cli import app
from solobox.cli.options import set_options
from solobox.config.recipe import Recipe, read_toml
from solobox.predict.video.clip_writer import write_clip

from server_in_thread import hosted  # isort: skip

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if not path.parent.name.startswith("_")
)
TUTORIAL = "tutorial/index.md"

SMALL = {
    "size": 64, "crops": 1, "epochs": 1, "width": 16, "batch": 8, "backbone": "test_efficientnet", "val": 0.4,
    "strides": [8, 16, 32],
}  # fmt: skip
TAKES_LONG = ("train", "export")
"""Run once, in the tutorial; their options are tried in tests/cli and tests/export."""

UNTIL_STOPPED = ("serve", "annotate")
TRAINING = ("train", "audit", "curve")
OTHERS = ("pip", "make", "source", "curl", "docker", "export", "tritonserver", "hf", "npm", "python")
"""Programs of others, which are not run here; curl is in tests/serve."""

pytestmark = pytest.mark.usefixtures("few_steps", "without_openvino")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(timm.create_model("test_efficientnet", pretrained=False).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def small(weights: Path) -> dict[str, Any]:
    return {**SMALL, "pretrained": str(weights)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small: dict[str, Any]) -> Path:
    """The folder that the tutorial leaves behind: each other page gets a copy."""
    folder = tmp_path_factory.mktemp("tutorial")
    assert evaluate(TUTORIAL, folder, small) > 6
    for name in ("report.html", "boxes.csv", "drawn/00000.jpg", "model.onnx", "run/config.json"):
        assert (folder / name).stat().st_size > 0
    return folder


def evaluate(page: str, folder: Path, small: dict[str, Any], **names: object) -> int:
    """Evaluate each block of a page in `folder`; returns how many there were. names: those that Python code may use."""
    console = functools.partial(run_console, small=small, trains=page == TUTORIAL)
    parsers: dict[str, Callable[[Example], None]] = {
        "console": console, "bash": run_bash, "toml": run_toml, "yaml": run_yaml,
        "json": run_json,
    }  # fmt: skip
    sybil = Sybil([PythonCodeBlockParser(), *(CodeBlockParser(*each) for each in parsers.items())])
    document = sybil.parse(DOCS / page)
    document.namespace.update(names)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Boxes of a model of one epoch have no area, and are not learned from.
        options = {**small, "epochs": 20}
        for name in ("train", "self_train"):
            patch.setattr(solobox, name, smaller(getattr(solobox, name), options))
        patch.setattr(synthetic, "write", fewer(synthetic.write))
        examples = list(document.examples())
        for example in examples:
            example.evaluate()
    return len(examples)


def smaller(train: Callable[..., Any], small: dict[str, Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: train(*arguments, **{**options, **small})


def fewer(write: Callable[..., Any]) -> Callable[..., Any]:
    return lambda folder, _count, **options: write(folder, 60, **{**options, "size": (96, 72)})


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a console block, without its comment."""
    lines = re.findall(r"^\$ ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert lines, text
    for line in lines:
        yield shlex.split(re.sub(r"  +#.*$", "", line).replace("\\\n", " "))


def run_console(example: Example, *, small: dict[str, Any], trains: bool) -> None:
    before = example.document.text[: example.region.start].rstrip("\n").rpartition("\n")[2]
    parsed_only = before.startswith("% parsed only: ")
    for words in commands(example.parsed):
        if words[0] == "torchrun":
            words = words[words.index("-m") + 1 :]
        if words[0] != "solobox":
            assert words[0] in OTHERS, words
            continue
        words = words[1:]
        parse(words)
        if words[0] == "train" and not trains and "-o" in words:
            stand_in(Path(words[words.index("-o") + 1]))
        if parsed_only or words[0] in UNTIL_STOPPED or (words[0] in TAKES_LONG and not trains):
            continue
        done = solobox_here(*words, *(flags(words[0], small) if words[0] in TRAINING else []))
        assert done.returncode == 0, f"solobox {shlex.join(words)}\n{done.stdout}\n{done.stderr}"


def stand_in(run: Path) -> None:
    """Let the tutorial's model stand in for one that is not trained here."""
    if not run.exists():
        shutil.copytree("run", run)


def flags(command: str, small: dict[str, Any]) -> list[str]:
    listed = {name: value if isinstance(value, list) else [value] for name, value in small.items()}
    if command != "train":
        del listed["val"]
    return [word for name, values in listed.items() for word in (f"--{name}", *map(str, values))]


def parse(words: list[str]) -> None:
    """Parse a command by the real program, and build the recipe of one that trains."""
    try:
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"solobox {shlex.join(words)}: {error}")
    assert command.__name__ == words[0]
    if words[0] in TRAINING:
        preset, options = read_toml(bound.arguments.get("config"))
        options |= set_options(bound.arguments.get("settings"))
        Recipe.from_preset(bound.arguments.get("recipe") or preset, options)


def run_bash(example: Example) -> None:
    lines = re.findall(r"\bsolobox (.*)$", example.parsed, re.MULTILINE)
    assert lines
    for line in lines:
        parse(shlex.split(line))


def run_toml(example: Example) -> None:
    assert tomllib.loads(example.parsed)
    Path("recipe.toml").write_text(example.parsed, encoding="utf-8")
    read_toml(Path("recipe.toml"))


def run_json(example: Example) -> None:
    assert json.loads(example.parsed)


def run_yaml(example: Example) -> None:
    content = yaml.safe_load(example.parsed)
    if "spec" not in content:  # what tests/cli/test_ci_examples.py runs
        return
    (container,) = content["spec"]["predictor"]["containers"]
    parse(["serve", *container["args"]])


@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL])
def test_the_snippets(page: str, finished: Path, small: dict[str, Any], tmp_path: Path) -> None:
    if not re.search(r"^```(console|bash|toml|yaml|json|python)", (DOCS / page).read_text(), re.MULTILINE):
        return
    folder = tmp_path / "work"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("boxes.csv", "drawn", "report.html"))
    with write_clip(folder / "clip.mp4", Fraction(10), Fraction(1, 10)) as clip:
        for number in range(3):
            clip.add(synthetic.draw(number, (96, 64)).pixels, number / 10)
    photos = folder / "photos"
    more = folder / "more" / "images"
    synthetic.write(more.parent, 12, seed=9, size=(96, 72))
    with hosted(solobox.load(folder / "model.onnx")) as server:  # type: ignore[arg-type]
        names = {"photos": more, "paths": sorted(photos.glob("*.jpg"))[:3], "url": server.url}
        assert evaluate(page, folder, small, **names) > 0
