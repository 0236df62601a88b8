"""The folder of `--target web`: its files, the package that it takes from npm, and the page in a real browser."""

import base64
import functools
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exported_models import usual_localizer
from PIL import Image

from error_codes import has_code
from loopback import on_loopback
from solobox.errors import ConfigError
from solobox.export import exporter, web
from solobox.export.parity import Parity, synthetic_images
from solobox.images.reading import to_square
from solobox.model.localizer import Localizer
from solobox.page import page_files, page_html
from solobox.predict.onnx_model import METADATA, OnnxModel

from browser import chromium, needs_chromium, new_page  # isort: skip

PILLOW = int(version("pillow").split(".")[0])
RUNTIME = {"ort.wasm.min.js": b"", "ort-wasm-simd-threaded.js": b"", "ort-wasm-simd-threaded.wasm": b""}


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return usual_localizer()


@pytest.fixture
def quick_export(
    monkeypatch: pytest.MonkeyPatch, exported_file: Path, localizer: Localizer
) -> Callable[[Path, Any], Any]:
    """`export` without tracing and comparing, which other tests do, and without npm."""
    monkeypatch.setattr(exporter, "to_onnx", lambda *_: onnx.load(exported_file))
    monkeypatch.setattr(exporter, "compare", lambda *_, **__: Parity())
    monkeypatch.setattr(exporter, "runtime_files", lambda _: RUNTIME)
    return lambda path, target: exporter.export(localizer, path, target=target)


def paths(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_is_whole_and_refers_to_nothing_else(
    quick_export: Callable[[Path, Any], Any], tmp_path: Path
) -> None:
    result = quick_export(tmp_path / "site", "web")
    site = tmp_path / "site"
    own = {"index.html", "model.onnx", "model.json", "LICENSE.txt", *page_files("web")}
    assert paths(site) == own | {f"runtime/{name}" for name in RUNTIME}
    assert result.bytes == sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    properties = {each.key: each.value for each in onnx.load(site / "model.onnx").metadata_props}
    assert json.loads((site / "model.json").read_text()) == json.loads(properties[METADATA])
    OnnxModel.load(site / "model.onnx", threads=1)
    with pytest.raises(ConfigError, match="not empty", check=has_code("path-invalid")):
        quick_export(site, "web")
    assert list(tmp_path.iterdir()) == [site]


def test_each_page_has_its_own_parts() -> None:
    for kind, other in (("server", "web"), ("web", "server")):
        text = page_html(kind)  # type: ignore[arg-type]
        assert f"{kind}.js" in text
        assert f"{other}.js" not in text
        assert "<!--" not in text


def test_folders_carry_the_licences(quick_export: Callable[[Path, Any], Any], tmp_path: Path) -> None:
    quick_export(tmp_path / "site", "web")
    quick_export(tmp_path / "models" / "face", "triton")
    apache = distribution("solobox").read_text("licenses/LICENSE")
    assert apache is not None
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in apache
    for folder in (tmp_path / "site", tmp_path / "models" / "face"):
        text = (folder / "LICENSE.txt").read_text(encoding="utf-8")
        assert apache.strip() in text
        is_web = folder.name == "site"
        assert ("Copyright (c) Microsoft Corporation" in text) == is_web
        assert ("Permission is hereby granted, free of charge" in text) == is_web
        assert "licence of the pretrained weights" in text


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a shell script")
@pytest.mark.parametrize(
    ("script", "code"),
    [
        (None, "runtime-unavailable"),
        ("exit 1", "runtime-unavailable"),
        ("echo something else > onnxruntime-web.tgz", "runtime-differs"),
    ],
)
def test_without_the_package_nothing_is_written(
    script: str | None, code: str, localizer: Localizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    if script is not None:
        (programs / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ConfigError, match=f"npm pack {web.PACKAGE}", check=has_code(code)):
        exporter.export(localizer, tmp_path / "site", target="web")
    assert list(tmp_path.iterdir()) == [programs]


def test_a_file_that_is_not_the_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.tgz").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="its hash differs", check=has_code("runtime-differs")):
        web.runtime_files(tmp_path / "other.tgz")
    with pytest.raises(ConfigError, match="cannot be read", check=has_code("runtime-unavailable")):
        web.runtime_files(tmp_path / "missing.tgz")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, exported_file: Path) -> Iterator[tuple[Path, str]]:
    """A folder with the page and the model, without the runtime; and its address."""
    folder = tmp_path_factory.mktemp("site")
    write(folder, web.site_files(onnx.load(exported_file), {}))
    with on_loopback(functools.partial(Quiet, directory=str(folder))) as address:
        yield folder, f"{address}/"


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


@needs_chromium
def test_the_resize_is_pillows(site: tuple[Path, str], browser: Any) -> None:
    """To the last bit; older versions of Pillow begin tall images with the other axis."""
    for_page = """async ([width, height, pixels, side]) => {
        const { resizeToSquare } = await import('./resize.js');
        const bytes = Uint8Array.from(atob(pixels), (each) => each.charCodeAt(0));
        return Array.from(resizeToSquare(bytes, width, height, side)); }"""
    with new_page(browser, []) as page:
        page.goto(site[1])
        for image in [each for each in synthetic_images() if each.size < 300_000]:
            height, width = image.shape[:2]
            found = page.evaluate(for_page, [width, height, base64.b64encode(image.tobytes()).decode(), 64])
            square = np.array(found, np.int16).reshape(64, 64, 3)
            assert np.abs(square - to_square(image, 64)).max() <= (height > width and PILLOW < 13)


@needs_chromium
def test_without_the_runtime_the_page_says_so(site: tuple[Path, str], browser: Any) -> None:
    with new_page(browser, []) as page:
        page.goto(site[1])
        page.wait_for_selector("#error:not([hidden])")
        assert "does not run in this browser" in page.text_content("#error-message")


@pytest.fixture(scope="module")
def page(site: tuple[Path, str], browser: Any) -> Iterator[Any]:
    """A page with the runtime from npm. It complains of nothing and asks nobody else."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm on this machine to fetch onnxruntime-web with")
    try:
        runtime = web.runtime_files()
    except ConfigError as error:
        if error.code != "runtime-unavailable":
            raise
        pytest.skip(f"npm cannot fetch onnxruntime-web here, nor has it in its cache: {error}")
    write(site[0], {f"runtime/{name}": content for name, content in runtime.items()})
    wrong: list[str] = []
    with new_page(browser, wrong) as opened:
        opened.on(
            "request",
            lambda request: (
                None if request.url.startswith((site[1], "blob:", "data:")) else wrong.append(request.url)
            ),
        )
        opened.goto(site[1])
        until(opened, "document.getElementById('model').textContent.endsWith('one box out')")
        yield opened
    assert wrong == []


def until(page: Any, condition: str) -> None:
    """Playwright's own waiting evaluates text in the page, which its policy forbids."""
    for _ in range(1200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(condition)


def choose(page: Any, name: str, content: bytes) -> dict[str, Any]:
    page.set_input_files("#files", [{"name": name, "mimeType": "image/png", "buffer": content}])
    until(page, f"document.getElementById('name').textContent.startsWith('{name},')")
    answer: dict[str, Any] = json.loads(page.text_content("#json"))
    return answer


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, kind, **options)
        return buffer.getvalue()


@needs_chromium
def test_the_browser_predicts_what_python_predicts(page: Any, exported_file: Path) -> None:
    model = OnnxModel.load(exported_file, threads=1)
    drawn = [Image.fromarray(each) for each in synthetic_images()[:6]]
    files = [encoded(image) for image in drawn]
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = drawn[4].resize((16, 12)).resize((320, 240), Image.Resampling.BICUBIC)  # decoders agree on it
    files.append(encoded(smooth.rotate(90, expand=True), "JPEG", quality=95, subsampling=0, exif=exif))
    clear = drawn[3].convert("RGBA")
    clear.putalpha(100)
    files.append(encoded(clear))
    for number, content in enumerate(files):
        expected = model.predict(content, margins=0.9)
        answer = choose(page, f"{number}.png", content)
        assert answer["size"] == list(expected.size), number
        assert answer["box"] == pytest.approx(expected.box, abs=0.5), number
        assert answer["margins"]["lower"] == pytest.approx(expected.lower, abs=0.5), number
        assert answer["margins"]["upper"] == pytest.approx(expected.upper, abs=0.5), number
        assert answer["presence"] == pytest.approx(expected.presence, abs=0.01), number
        assert answer["familiarity"] == pytest.approx(expected.familiarity, abs=0.05), number


@needs_chromium
def test_it_says_what_it_cannot_read_and_goes_on(page: Any) -> None:
    page.set_input_files("#files", [{"name": "a.png", "mimeType": "image/png", "buffer": b"no image"}])
    page.wait_for_selector("#error:not([hidden])")
    assert "cannot read" in page.text_content("#error-message")
    choose(page, "good.png", encoded(Image.fromarray(synthetic_images()[2])))
    assert page.is_hidden("#error")
    assert page.is_visible("#presence")
    assert page.is_visible("#familiarity")
