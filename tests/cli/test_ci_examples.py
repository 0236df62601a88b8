"""The hook for pre-commit and the workflow in docs/howto/ci.md."""

import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_process import solobox_here

from solobox import synthetic

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def blocks() -> list[Any]:
    text = (ROOT / "docs" / "howto" / "ci.md").read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


def test_the_hook_checks_what_its_args_name(
    blocks: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    (used,) = blocks[0]["repos"][0]["hooks"]
    assert used["id"] == hook["id"]
    assert not hook["pass_filenames"]
    for name in ("labels.csv", "a/b.JPG", "instances.json", "labels/1.txt", "data.yaml"):
        assert re.search(hook["files"], name)
    for name in ("train.py", "csv", "notes.md"):
        assert not re.search(hook["files"], name)
    program, *words = shlex.split(hook["entry"])
    assert program == "solobox"
    synthetic.write(tmp_path / "data", 6, seed=1, size=(96, 64))
    labels = (tmp_path / "data" / "annotations.csv").rename(tmp_path / "data" / "labels.csv")
    monkeypatch.chdir(tmp_path)
    assert solobox_here(*words, *used["args"]).returncode == 0
    head, first, *others = labels.read_text().splitlines()
    cells = first.split(",")
    cells[head.split(",").index("x2")] = "9999"
    labels.write_text("\n".join([head, ",".join(cells), *others]))
    assert solobox_here(*words, *used["args"]).returncode == 1


@pytest.mark.parametrize(
    ("significant", "change", "status"), [(True, -0.1, 1), (False, -0.1, 0), (True, 0.1, 0)]
)
def test_the_workflow_stops_a_worse_model(
    blocks: list[Any], tmp_path: Path, significant: bool, change: float, status: int
) -> None:
    (script,) = (step["run"] for step in blocks[1]["jobs"]["model"]["steps"] if "END" in step.get("run", ""))
    code = textwrap.dedent(script.split("<<'END'\n")[1].rpartition("END")[0])
    differences = {"mean_iou": {"difference": change}}
    metrics = {"against": {"n": 9, "significant": significant, "differences": differences}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert f"{change:+.3f}" in done.stdout
