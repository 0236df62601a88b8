"""Standard output and error in any code page, closed, and into a pipe whose reader ends first."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from solobox import Architecture, Localizer

ASCII_FILES = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
NAMES = ("é.png", "日本.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, images, and labels with a warning for each."""
    path = tmp_path_factory.mktemp("streams")
    Localizer(Architecture(backbone="test_efficientnet", size=64, width=16, bins=8)).eval().save(path / "run")
    (path / "photos").mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (60, 40), (9, 9, 90 * number)).save(path / "photos" / name)
    rows = "".join(f"photos/{name},5,5,5.5,30\n" for name in NAMES)
    (path / "labels.csv").write_text(f"image,x1,y1,x2,y2\n{rows}", encoding="utf-8")
    return path


def run(folder: Path, command: str, environment: dict[str, str] | None = None, **streams: Any) -> Any:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(
        [sys.executable, "-m", "solobox", *command.split()],
        cwd=folder, env=os.environ | (environment or {}), check=False, timeout=300, **streams,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "environment", "encoding"),
    [
        ("check labels.csv", {"PYTHONIOENCODING": "ascii"}, "ascii"),
        ("check labels.csv", {"PYTHONIOENCODING": "cp1252"}, "cp1252"),
        ("check labels.csv", {"LC_ALL": "C"}, "utf-8"),
        # Here Python opens no file whose name is not ASCII, so that none of the images is there.
        ("check labels.csv", ASCII_FILES, "ascii"),
        ("--help", {"PYTHONIOENCODING": "ascii"}, "ascii"),
        ("evaluate run labels.csv --split all", {"PYTHONIOENCODING": "ascii"}, "ascii"),
        ("predict run photos", {"PYTHONIOENCODING": "cp1252"}, "cp1252"),
    ],
)
def test_any_code_page_will_do(
    folder: Path, command: str, environment: dict[str, str], encoding: str
) -> None:
    done = run(folder, command, environment)
    assert done.returncode == (1 if environment is ASCII_FILES else 0), done.stderr
    for text in (done.stdout.decode(encoding), done.stderr.decode(encoding)):
        assert "Traceback" not in text
        assert "\\u2" not in text  # a sign of ours, escaped
    if command.startswith("evaluate"):
        assert "IoU>=.5" in done.stdout.decode(encoding)
    if command.startswith("predict"):
        assert "é.png,".encode(encoding) in done.stdout
        assert rb"\u65e5\u672c.png," in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize(
    "command", ["--help", "check labels.csv", "summary run", "predict run photos", "check absent.csv"]
)
def test_a_reader_that_ends_first_ends_the_command_in_silence(folder: Path, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(folder, command, stdout=writer)
        # Where nothing goes to standard output, nothing is amiss with it.
        assert done.returncode == (2 if "absent" in command else 141), done.stderr
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr
        if command.startswith("check"):
            assert run(folder, command, stdout=writer, stderr=writer).returncode == 141
    finally:
        os.close(writer)


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
def test_closed_streams_are_no_streams(folder: Path) -> None:
    shell = f"{sys.executable} -m solobox check labels.csv"
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{shell} {closed}"], cwd=folder, check=False, capture_output=True, timeout=300
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
