"""The wheel, in an environment that has the base dependencies alone."""

import csv
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from colour_model import image, write_model

from test_licences import installed

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).parent / "uv"

pytestmark = pytest.mark.skipif(
    not UV.is_file(), reason="uv is not in this environment; make setup puts it there"
)


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(each) for each in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of the environment."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    for name, one in installed("solobox", (), {}).items():
        tops = {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}
        for top in tops if name != "solobox" else ():
            (packages / top).symlink_to(Path(str(one.locate_file(top))).resolve())
    python = environment / "bin" / "python"
    run(
        UV, "pip", "install", "--quiet", "--no-deps", "--no-index", "--python", python, wheel, cwd=environment
    )
    return environment / "bin"


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "solobox").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"solobox/py.typed", "solobox/page/index.html", "solobox/page/worker.js"} <= expected
    assert expected <= names
    assert {Path(name).name for name in names - expected} >= {
        "METADATA",
        "LICENSE",
        "NOTICE",
        "entry_points.txt",
    }


def test_its_metadata_would_be_accepted(wheel: Path) -> None:
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", wheel, cwd=ROOT)


def test_the_base_install_predicts(programs: Path, tmp_path: Path) -> None:
    assert "predict" in run(programs / "solobox", "--help", cwd=tmp_path)
    for absent in ("torch", "onnx", "cv2"):
        run(
            programs / "python",
            "-c",
            f"import importlib.util as u; assert not u.find_spec('{absent}')",
            cwd=tmp_path,
        )
    write_model(tmp_path / "model.onnx")
    (tmp_path / "a.png").write_bytes(image())
    run(programs / "solobox", "predict", "model.onnx", "a.png", "-o", "boxes.csv", cwd=tmp_path)
    with (tmp_path / "boxes.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["x2"]) > float(row["x1"])


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("bash", ".local/share/bash-completion/completions/solobox"),
        ("zsh", ".zsh/completions/_cyclopts_solobox"),
        ("fish", ".config/fish/completions/solobox.fish"),
    ],
)
def test_completion_is_installed(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, script: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    run(programs / "solobox", "--install-completion", "--shell", shell, cwd=tmp_path)
    text = (tmp_path / script).read_text()
    assert all(word in text for word in ("solobox", "annotate", "--float16", "--web-runtime"))
    if shell == "bash":
        completed = run(
            "bash", "--norc", "-c",
            f"source {script}; COMP_WORDS=(solobox exp); COMP_CWORD=1; "
            "$(complete -p solobox | sed 's/.*-F \\([^ ]*\\).*/\\1/') solobox exp solobox; echo ${COMPREPLY[@]}",
            cwd=tmp_path,
        )  # fmt: skip
        assert completed.split() == ["export"]
