"""Disks without room: an error with a code and no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from solobox import Architecture, Localizer

CODE = "from solobox.cli import main; main()"


def test_a_demo_without_room_says_so(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = subprocess.run(
        [sys.executable, "-c", CODE, "demo", "-o", str(tmp_path / "demo")],
        capture_output=True, text=True, check=False, preexec_fn=limit, timeout=300,
    )  # fmt: skip
    assert (done.returncode, "error[disk-full]" in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_rows_that_go_to_a_full_disk_end_with_an_error(tmp_path: Path) -> None:
    architecture = Architecture(backbone="test_efficientnet", size=64, width=16, bins=8)
    Localizer(architecture).eval().save(tmp_path / "run")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    for words in (["predict", "run", "a.png"], ["summary", "run"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-c", CODE, *words],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path,
            )  # fmt: skip
        assert (done.returncode, "error[disk-full]" in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
