import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MINE = """
import time
from solobox.autolabel import Candidate

def by_level(pixels):
    level = int(pixels[0, 0, 0])
    scores = {1: [], 2: [5, 4.9]}.get(level, [5, 1])
    return [Candidate(box, score) for box, score in zip([(1, 2, 11, 12), (20, 3, 39, 29)], scores)]

def slow(pixels):
    time.sleep(0.3)
    return by_level(pixels)
"""
CODE = "from solobox.cli import main; main()"
IGNORE = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
"""As `nohup` in a script and many CI runners start a command."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in ``in/``, numbered by their grey, and a labeler in ``mine.py``."""
    (tmp_path / "in").mkdir()
    for level in range(6):
        Image.fromarray(np.full((30, 40, 3), level, np.uint8)).save(tmp_path / "in" / f"{level}.png")
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def solobox(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", CODE, "autolabel", *words],
        cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "150"},
    )  # fmt: skip


def images(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


def test_two_files_and_status_1_where_an_image_cannot_be_read(folder: Path) -> None:
    (folder / "in" / "4.png").write_bytes(b"")
    (folder / "in" / "6.jxl").write_bytes(b"\xff\x0a")
    (folder / "in" / "._0.png").write_bytes(b"x")
    (folder / "list.csv").write_text("image,note\nin/5.png,x\nin/0.png,y\n")
    (folder / "lost.txt").write_text("lost.jpg\n")
    done = solobox(
        folder,
        "list.csv",
        "in",
        "lost.txt",
        "-o",
        "out/boxes.csv",
        "--with",
        "mine:by_level",
        "--label",
        "thing",
    )
    assert done.returncode == 1, done.stderr
    assert images(folder / "out" / "boxes.csv") == ["../in/5.png", "../in/0.png", "../in/3.png"]
    rejected = ["../in/1.png", "../in/2.png", "../in/4.png", "../in/6.jxl", "../lost.jpg"]
    assert images(folder / "out" / "boxes.rejected.csv") == rejected
    stderr = " ".join(done.stderr.split())
    assert "3 of 8 images have a box" in stderr
    assert "1 with nothing found, 1 with several candidates, 3 with an error" in stderr
    assert "left out of the folders: 1 hidden" in stderr
    assert "4.png: the file is empty" in stderr


def test_faces_by_default_and_status_0(folder: Path) -> None:
    done = solobox(folder, "in/[01].png", "-o", "boxes.csv", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert images(folder / "boxes.csv") == []
    assert images(folder / "boxes.rejected.csv") == ["in/0.png", "in/1.png"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["in", "-o", "b.csv", "--with", "mine:nobody"], "no function 'nobody'"),
        (["in", "-o", "b.xlsx"], "ends in .csv"),
        (["list.csv", "-o", "list.csv"], "error[output-is-input]"),
    ],
)
def test_mistakes_get_a_sentence_and_write_nothing(folder: Path, words: list[str], says: str) -> None:
    (folder / "list.csv").write_text("image\nin/0.png\n")
    before = {path.name for path in folder.iterdir()} | {"__pycache__"}
    done = solobox(folder, *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in folder.iterdir()} <= before
    assert (folder / "list.csv").read_text() == "image\nin/0.png\n"


def test_without_opencv_the_extra_is_named(folder: Path) -> None:
    code = f"import sys; sys.modules['cv2'] = None; {CODE}"
    done = subprocess.run(
        [sys.executable, "-c", code, "autolabel", "in", "-o", "b.csv", "--workers", "1"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "[autolabel] extra" in done.stderr
    assert not (folder / "b.csv").exists()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there is no Ctrl-C for a group of processes here")
@pytest.mark.parametrize(("seconds", "before"), [(0.005, ""), (0.3, ""), (0.3, IGNORE)])
def test_ctrl_c_stops_all_threads_and_leaves_no_file(folder: Path, seconds: float, before: str) -> None:
    for level in range(6, 60):
        Image.fromarray(np.full((30, 40, 3), level, np.uint8)).save(folder / "in" / f"{level}.png")
    process = subprocess.Popen(
        [sys.executable, "-c", before + CODE, "autolabel", "in", "-o", "b.csv", "--with", "mine:slow",
         "--workers", "2"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not list(folder.glob(".b*.part")):  # until it is running
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)  # ends when no process holds the pipes
    assert process.returncode == 130, err
    assert "Traceback" not in err + out
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["in", "mine.py"]
