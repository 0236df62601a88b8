"""docs/howto/serve.md and docs/reference/http.md tell the truth."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from solobox.serve.errors import IMAGE_ERRORS, OPTION_ERRORS
from solobox.serve.settings import ServerSettings

from colour_model import image, write_model  # isort: skip
from server_process import Running, command, running  # isort: skip

ROOT = Path(__file__).parents[2]
TEXT = "".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("howto/serve.md", "reference/http.md")
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(write_model(tmp_path_factory.mktemp("model") / "model.onnx")) as started:
        yield started


def test_every_code_is_listed_with_its_status() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/solobox/serve").glob("*.py"))
    raised = set(re.findall(r'HTTPError\(\s*(\d{3}),\s*"([\w-]+)"', source))
    raised |= set(re.findall(r'^ +(\d{3}): \("([\w-]+)"', source, re.MULTILINE))
    raised |= {(str(status), code) for code, (status, _) in IMAGE_ERRORS.items()}
    raised |= {("422", code) for code in OPTION_ERRORS}
    listed = set()
    for status, codes in re.findall(r"^\| (\d+) \| (`.*?`) \|", TEXT, re.MULTILINE):
        listed |= {(status, code) for code in re.findall(r"`([\w-]+)`", codes)}
    assert len(raised) > 20
    assert raised == listed


def test_its_commands_for_curl(server: Running, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(image(kind="JPEG"))
    lines = re.findall(r"^\$ (curl .*)$", TEXT, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        words = shlex.split(line.replace("http://127.0.0.1:8000", server.url))
        words[1:1] = ["--silent", "--fail", "--noproxy", "*"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert '"box":[' in done.stdout


def test_its_defaults_and_options() -> None:
    s = ServerSettings()
    for said in (
        f"{s.max_bytes // 10**6} MB", f"| {s.max_json // 10**6} MB |",
        f"{s.max_pixels // 10**6} million", f"| {s.max_images} |",
        f"{s.max_queue}, then 429",
        f"{s.deadline:g} s, then 504",
        f"{s.head_timeout:g} s; {s.read_timeout:g} s; {s.body_timeout:g} s",
        f"| {s.max_connections}; {s.max_client_connections} |",
        f"{s.drain:g} s |",
    ):  # fmt: skip
        assert said in TEXT, said
    done = subprocess.run(command("--help"), capture_output=True, text=True, check=False)
    container = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    options = set(re.findall(r"--[a-z-]+", done.stdout))
    started = re.findall(r"^CMD (.*)$", container, re.MULTILINE)[-1]
    others = {"--data-binary", "--rm", "--read-only"}
    for name in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT + started)) - others:
        assert name in options, name
