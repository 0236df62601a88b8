import functools
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from PIL import Image

from loopback import on_loopback


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        pass


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that has the selfies, two of them, as the real one would."""
    folder = tmp_path_factory.mktemp("mirror")
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert("RGB").save(buffer, "JPEG")
    text = "".join(f"{name} 3.5 {' '.join(['1'] * 36)}\n" for name in ("a", "b"))
    files = {
        "images/a.jpg": buffer.getvalue(),
        "images/b.jpg": buffer.getvalue(),
        "selfie_dataset.txt": text.encode(),
    }
    with tarfile.open(folder / "Selfie-dataset.tar.gz", "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"Selfie-dataset/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with on_loopback(functools.partial(Quiet, directory=str(folder))) as address:
        yield address


def solobox(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "150", "no_proxy": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-c", "from solobox.cli import main; main()", *map(str, words)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def test_download_says_what_it_did_and_what_comes_next(mirror: str, tmp_path: Path) -> None:
    done = solobox("download", "selfie", tmp_path / "d", "--url", mirror)
    assert done.returncode == 0, done.stderr
    assert "research only" in done.stderr
    assert "no checksum is published" in " ".join(done.stderr.split())
    assert f"{tmp_path / 'd' / 'unlabelled.csv'}: 2 images without a box" in done.stderr
    assert f"next: solobox autolabel {tmp_path / 'd' / 'Selfie-dataset' / 'images'} -o" in done.stderr
    again = solobox("download", "selfie", tmp_path / "d", "--url", mirror)
    assert again.returncode == 0, again.stderr
    assert "is complete already; nothing was done" in again.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["selfies", "DIR"], "'selfie'?"),
        (["selfie", "DIR", "--url", "http://example.org"], "only https"),
        (["selfie", "DIR", "--url", "MIRROR/nowhere"], "404"),
    ],
)
def test_mistakes_of_downloading_get_a_sentence(
    mirror: str, tmp_path: Path, words: list[str], says: str
) -> None:
    done = solobox(
        "download", *[word.replace("DIR", str(tmp_path / "d")).replace("MIRROR", mirror) for word in words]
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_of_download_names_every_set() -> None:
    from solobox.datasets import DATASETS

    done = solobox("download", "--help")
    assert done.returncode == 0, done.stderr
    for name in DATASETS:
        assert name in done.stdout
