"""The exported page in Chromium against Python: `python bench/web.py MODEL.onnx IMAGES [--count 50] [--isolated]`.

IMAGES: a folder. Each image is predicted as it is stored, and as a PNG, which leaves decoders nothing to differ in; as
many drawn scenes, as PNGs, too. `--isolated`: with the headers that let the browser use threads.
"""

import argparse
import functools
import io
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

from solobox import synthetic
from solobox.export.web import runtime_files, site_files
from solobox.images.reading import read
from solobox.predict.onnx_model import OnnxModel


class Handler(SimpleHTTPRequestHandler):  # noqa: D101
    isolated = False

    def log_message(self, *_: object) -> None:  # noqa: D102
        pass

    def end_headers(self) -> None:  # noqa: D102
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@contextmanager
def opened_page(folder: Path, chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server,
        sync_playwright() as driver,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        started = time.perf_counter()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        wait(page, "document.getElementById('model').textContent.endsWith('one box out')")
        print(f"the page is ready after {time.perf_counter() - started:.1f} s")
        yield page
        browser.close()
        server.shutdown()


def wait(page: Any, condition: str) -> None:
    for _ in range(12_000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(5)
    raise SystemExit(f"never: {condition}")


def measure(page: Any, model: OnnxModel, kind: str, contents: Sequence[bytes]) -> None:
    apart, theirs, ours = [], [], []
    for number, content in enumerate(contents):
        started = time.perf_counter()
        expected = model.predict(content)
        ours.append(1000 * (time.perf_counter() - started))
        name = f"{kind}{number}"
        page.set_input_files("#files", [{"name": name, "mimeType": "image/png", "buffer": content}])
        wait(page, f"document.getElementById('name').textContent.startsWith('{name},')")
        answer = json.loads(page.text_content("#json"))
        theirs.append(float(page.text_content("#time").split()[0]))
        apart.append(float(np.abs(np.array(answer["box"]) - expected.box).max()))
    print(
        f"{kind:12s} {len(contents):6d} {np.median(apart):10.4f} {np.quantile(apart, 0.9):10.4f} {max(apart):10.4f} "
        f"{np.median(theirs):10.0f} {np.median(ours):10.0f}",
        flush=True,
    )


def as_png(pixels: Any) -> bytes:
    with io.BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--isolated", action="store_true")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    Handler.isolated = arguments.isolated
    files = sorted(arguments.images.glob("*.jpg"))
    files = [files[at] for at in np.linspace(0, len(files) - 1, min(arguments.count, len(files))).astype(int)]
    model = OnnxModel.load(arguments.model, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        (site / "runtime").mkdir(parents=True)
        for name, content in site_files(onnx.load(arguments.model), runtime_files()).items():
            (site / name).write_bytes(content)
        drawn = synthetic.write(Path(folder) / "drawn", len(files), seed=5)
        with opened_page(site, arguments.chromium) as page:
            names = ("px, median", "90%", "largest", "ms, page", "Python")
            print(f"{'':12s} images " + " ".join(f"{name:>10s}" for name in names))
            measure(page, model, "drawn", [as_png(read(path).pixels) for path in drawn.paths])
            measure(page, model, "png", [as_png(read(path).pixels) for path in files])
            measure(page, model, "jpeg", [path.read_bytes() for path in files])


if __name__ == "__main__":
    main()
