"""A folder for any web server: a page where the browser runs the model, by onnxruntime-web.

onnxruntime-web is a package of npm. One version is used, which is checked by its hash.
"""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx

from solobox.errors import ConfigError, reason
from solobox.page import page_files, page_html
from solobox.predict.onnx_model import METADATA

PACKAGE = "onnxruntime-web@1.30.0"

_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Of its many builds that for processors alone: no other is needed, and it is the smallest."""

_MAX_BYTES = 200 << 20
_TIMEOUT = 300.0
"""Seconds that npm may take to fetch the 33 MB."""


def runtime_files(package: Path | None = None) -> dict[str, bytes]:
    """The files of onnxruntime-web that a page needs, by their names, with ``.js`` for ``.mjs``.

    Many web servers do not know that ``.mjs`` is JavaScript, and browsers refuse it then.

    package: the file that ``npm pack`` writes. None: npm fetches it, or has it in its cache.

    Raises ConfigError: ``runtime-unavailable`` where there is no npm, it fails or the file cannot be read;
    ``runtime-differs`` for any other file than the one of `PACKAGE`.
    """
    content = _fetch() if package is None else _read(package)
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != _SHA512:
        raise ConfigError(
            f"{package or 'what npm fetched'} is not the package {PACKAGE} as it was published: its hash differs. "
            f"Fetch it again with: npm pack {PACKAGE}",
            code="runtime-differs",
        )
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {name: archive.extractfile(f"package/dist/{name}") for name in _FILES}
        return {name.replace(".mjs", ".js"): file.read() for name, file in files.items() if file is not None}


def site_files(model: onnx.ModelProto, runtime: Mapping[str, bytes]) -> dict[str, bytes]:
    """All files of the folder but the licences, by their paths in it. runtime: see `runtime_files`."""
    (header,) = (each.value for each in model.metadata_props if each.key == METADATA)
    return {
        "index.html": page_html("web").encode(),
        **page_files("web"),
        "model.onnx": model.SerializeToString(),
        "model.json": header.encode(),  # onnxruntime-web does not give a file's metadata
        **{f"runtime/{name}": content for name, content in runtime.items()},
    }


def _fetch() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise _unavailable("there is no npm, which comes with Node.js")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", PACKAGE, "--silent", "--prefer-offline", "--ignore-scripts"]
        try:
            done = subprocess.run(  # noqa: S603  (npm as the user has it)
                command, cwd=folder, timeout=_TIMEOUT, capture_output=True, text=True, errors="replace",
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _unavailable(f"npm failed: {reason(error)}") from error
        packed = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            raise _unavailable("npm could not fetch it")
        return packed[0].read_bytes()


def _read(package: Path) -> bytes:
    try:
        if package.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{package} is too large to be the package {PACKAGE}", code="runtime-differs")
        return package.read_bytes()
    except OSError as error:
        raise _unavailable(f"{package} cannot be read: {reason(error)}") from error


def _unavailable(why: str) -> ConfigError:
    return ConfigError(
        f"the page needs {PACKAGE}, and {why}. On any machine with Node.js and a network run `npm pack {PACKAGE}`, "
        "then give the file that it writes with --web-runtime FILE",
        code="runtime-unavailable",
    )
