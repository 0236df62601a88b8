"""The page as a program and a notebook start it."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from folders import TRUE, draw, folder_of

import solobox
from error_codes import has_code
from solobox.data.dataset import Dataset
from solobox.errors import DataError


def test_a_notebook_shows_a_link_and_has_the_labels(tmp_path: Path) -> None:
    with solobox.annotate(folder_of(tmp_path / "photos", 4), tmp_path / "labels.csv") as page:
        assert page.address in page._repr_html_()
        with urllib.request.urlopen(f"{page.address}api/state", timeout=30) as response:  # noqa: S310
            assert response.status == 200
        draw(page.session)
        assert page.dataset.boxes.tolist() == [list(TRUE)]
        address = page.address
    assert len(Dataset.read(tmp_path / "labels.csv")) == 1
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=5)  # noqa: S310


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, check=has_code("no-images")):
        solobox.annotate(tmp_path, tmp_path / "labels.csv")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_its_address_and_ends_in_order(tmp_path: Path, stop: signal.Signals) -> None:
    photos, out = folder_of(tmp_path / "photos", 3), tmp_path / "labels.csv"
    given = tmp_path / "given.csv"
    given.write_text("image,x1,y1,x2,y2\nphotos/00.jpg,1,2,30,40\n")
    command = [
        sys.executable, "-m", "solobox", "annotate", str(photos), "-o", str(out), "--from", str(given), "--no-browser",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "http://" in line:
                break
        address = said[-1].split()[-1]
        with urllib.request.urlopen(address, timeout=30) as response:  # noqa: S310
            assert b"Solobox" in response.read()
        time.sleep(0.2)
        process.send_signal(stop)
        said += list(process.stdout)
    assert process.returncode == 0, said
    text = "".join(said)
    assert "1 label added" in text
    assert "3 images, 1 answered" in text
    assert "1 labelled image\n" in text
    assert Dataset.read(out).source == ("given",)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["photos", "--goal", "1"], "out-of-range"),
        (["photos", "--good-iou", "0"], "out-of-range"),
        (["photos", "--port", "70000"], "out-of-range"),
        (["photos", "--port", "-1"], "out-of-range"),
        (["nowhere"], "not-found"),
        (["photos", "-o", "mine.csv"], "labels-exist"),
        (["photos", "--from", "nowhere.csv"], "not-found"),
    ],
)
def test_mistakes_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: str
) -> None:
    from solobox.cli import app

    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "photos", 1)
    (tmp_path / "mine.csv").write_text("image,x1,y1,x2,y2\nphotos/00.jpg,1,2,3,4\n")
    with pytest.raises(solobox.SoloboxError) as raised:
        app(["annotate", *arguments, "--no-browser"], result_action="return_value", exit_on_error=False)
    assert raised.value.code == code
