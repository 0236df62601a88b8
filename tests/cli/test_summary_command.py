import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from command_process import solobox, solobox_here

from solobox.config.architecture import Architecture
from solobox.model.localizer import Localizer


def test_of_a_saved_run_with_drawing_and_file(tmp_path: Path) -> None:
    run = tmp_path / "birds & bees <1>"
    localizer = Localizer(Architecture(backbone="resnet18", size=64, width=16, bins=8))
    localizer.save(run)
    done = solobox("summary", run, "--plot", tmp_path / "new" / "l.svg", "--json", tmp_path / "l.json")
    assert done.returncode == 0, done.stderr
    parameters = sum(p.numel() for p in localizer.parameters())
    assert f"{parameters:,} parameters" in done.stdout
    for word in ("image", "backbone", "layer4", "vectorizer", "head", "512 × 2 × 2"):
        assert word in done.stdout
    assert "layer4.0" not in done.stdout
    svg = (tmp_path / "new" / "l.svg").read_text(encoding="utf-8")
    title = ET.fromstring(svg).findtext("{http://www.w3.org/2000/svg}title")  # noqa: S314 (our own)
    assert title == "birds & bees <1>: one image in, one box out"
    table = json.loads((tmp_path / "l.json").read_text(encoding="utf-8"))
    assert table["parameters"] == parameters
    assert table["architecture"]["backbone"] == "resnet18"
    assert sum(row["parameters"] for row in table["rows"] if row["depth"] == 1) == parameters
    assert max(row["depth"] for row in table["rows"]) == 2


def test_of_a_backbone_by_its_name() -> None:
    done = solobox(
        "summary", "--backbone", "resnet18", "--strides", "32", "--size", "224", "--vectorizer", "gap",
        "--head", "regression", "--width", "512", "--depth", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1,813,561,344" in done.stdout
    assert "512 × 7 × 7" in done.stdout
    assert "layer1" not in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["RUN", "--size", "64", "--ram-gb", "1"], "ram-gb"),
        (["RUN", "--size", "64", "--backbone", "resnet18"], "--backbone, --size"),
        (["--plot", "l.png"], "l.svg"),
        (["--depth", "0"], "Must be >= 1"),
        (["--size", "100"], "multiple of the coarsest stride"),
    ],
)
def test_mistakes_get_a_sentence(tmp_path: Path, words: list[str], says: str) -> None:
    done = solobox_here("summary", *[tmp_path if word == "RUN" else word for word in words])
    assert done.returncode == 2
    assert says in " ".join((done.stderr + done.stdout).split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
