"""The site builds without a warning, from the code, and loads nothing from elsewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from solobox.cli import _COMMANDS
from solobox.config.recipe import OPTIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages. Sphinx warns of broken links inside, of pages in no table of contents, and of bad docstrings."""
    folder = tmp_path_factory.mktemp("site")
    made = shutil.ignore_patterns("_build", "_generated", "__pycache__")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=made)
    for name in ("CHANGELOG.md", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--nitpicky", "--builder", "html"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "docs", "html"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_page_is_there(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    pages = [page for page in pages if not page.parts[0].startswith("_")]
    assert len(pages) > 30
    for page in pages:
        assert (site / page.with_suffix(".html")).is_file(), page


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["'](?:https?:)?//|<link\b[^>]*\bhref=["'](?:https?:)?//"""
    pages = list(site.rglob("*.html"))
    for page in pages:
        assert not re.search(loads, page.read_text(encoding="utf-8")), page
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")
        ), style


def test_the_reference_comes_from_the_code(site: Path) -> None:
    def text(page: str) -> str:
        return re.sub(r"<[^>]+>", "", (site / "reference" / page).read_text(encoding="utf-8"))

    commands, options, routes = text("cli.html"), text("config.html"), text("http.html")
    assert all(f"solobox {name}" in commands for name in _COMMANDS)
    assert all(f"--{name.replace('_', '-')}" in commands and name in options for name in OPTIONS)
    assert "POST /v1/predict" in routes
    assert "PredictionBody" in routes
    assert "image-too-many-pixels" in text("errors.html")
    assert "learning_curve" in text("python.html")
