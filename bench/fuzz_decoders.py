"""An hour of mutated image files through the decoders: `python bench/fuzz_decoders.py [--minutes 60]`.

Seeds are drawn images in every format and the smallest JPEG files of --images. They are mutated by flipped bytes, cuts,
changed lengths and headers of one file before the body of another. A child process, whose memory and time are limited,
reads each; the parent sees whatever ends it, keeps the file in --keep and starts another. Prints files by
format and outcome.
"""

import argparse
import io
import multiprocessing
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from solobox import synthetic

MAX_SECONDS = 10
MAX_RISE = 1_000_000_000
DECODED, REFUSED = "decoded", "refused"

VARIANTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "JPEG": [("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {})],
    "PNG": [("RGB", {}), ("P", {"transparency": 3}), ("RGBA", {}), ("I;16", {}), ("1", {}),
            ("RGB", {"save_all": True})],
    "WEBP": [("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", {"save_all": True})],
    "BMP": [("RGB", {}), ("P", {}), ("1", {}), ("RGBA", {})],
    "GIF": [("P", {}), ("P", {"save_all": True})],
    "TIFF": [("RGB", {"compression": each}) for each in (None, "tiff_lzw", "tiff_deflate", "jpeg", "packbits")]
    + [("1", {"compression": "group4"}), ("F", {}), ("I;16", {}), ("CMYK", {})],
}  # fmt: skip


def seeds(folder: Path | None) -> list[tuple[str, bytes]]:
    """Format and bytes of good files."""
    found = []
    for codec, variants in VARIANTS.items():
        for number, (mode, options) in enumerate(variants):
            pixels = Image.fromarray(synthetic.draw(number, (80, 60)).pixels)
            image = (
                pixels.convert("L").convert("I").convert("I;16") if mode == "I;16" else pixels.convert(mode)
            )
            more = {"append_images": [image.rotate(9)]} if "save_all" in options else {}
            buffer = io.BytesIO()
            image.save(buffer, codec, **options, **more)
            found.append((codec, buffer.getvalue()))
    files = sorted(folder.rglob("*.jpg"), key=lambda path: path.stat().st_size)[:20] if folder else []
    return found + [("JPEG", path.read_bytes()) for path in files]


def mutated(rng: np.random.Generator, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """One of the files, changed."""
    codec = list(VARIANTS)[rng.integers(len(VARIANTS))]
    alike = [content for name, content in files if name == codec]
    content = alike[rng.integers(len(alike))]
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        # headers are where it matters most
        at = int(rng.integers(min(len(data), 200) if rng.random() < 0.6 else len(data)))
        kind = rng.integers(6)
        if kind == 0:
            data[at] ^= 1 << rng.integers(8)
        elif kind == 1:
            data[at] = rng.choice([0, 1, 127, 128, 254, 255, int(rng.integers(256))])
        elif kind == 2:  # a length, a count or an offset
            value = int(
                rng.choice(
                    [0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, len(data), int(rng.integers(2**32))]
                )
            )
            packed = struct.pack(rng.choice([">I", "<I"]), value)[:: rng.choice([1, -1])][
                : rng.choice([2, 4])
            ]
            data[at : at + len(packed)] = packed
        elif kind == 3 and rng.random() < 0.5:
            del data[max(1, at) :]
        elif kind == 4:  # a header of one file before the body of another
            other = files[rng.integers(len(files))][1]
            data = bytearray(data[: at + 1] + other[int(rng.integers(len(other))) :])
        else:  # a piece left out or repeated
            length = int(rng.integers(1, 65))
            data[at : at + length] = data[at : at + length] * int(rng.choice([0, 2, 50]))
        data = data or bytearray(b"\0")
    return codec, with_checksums(bytes(data)) if rng.random() < 0.7 else bytes(data)


def with_checksums(content: bytes) -> bytes:
    """A PNG with the right checksums, without which nothing of it is decoded; other files as they are."""
    data, at = bytearray(content), 8
    while content.startswith(b"\x89PNG") and at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


def memory(name: str) -> int:
    """Bytes of this process: VmSize, VmRSS, or VmHWM, the most of it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def read_all(pipe: Connection) -> None:
    """Read what comes through the pipe, and send back how it ended."""
    from solobox.errors import ImageError
    from solobox.images.reading import probe, read

    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + 3 * MAX_RISE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        content = pipe.recv_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
        before = memory("VmRSS")
        outcome = DECODED
        for act in (probe, read):
            try:
                act(content)
            except ImageError:
                outcome = REFUSED
            except BaseException as error:  # noqa: BLE001
                outcome = type(error).__name__
                break
        pipe.send((outcome, memory("VmHWM") - before))


class Reader:
    """A child process that reads images."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=read_all, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def read(self, content: bytes) -> tuple[str, int, bool]:
        """The outcome, the rise of memory in bytes, and whether the child can go on."""
        try:
            self._pipe.send_bytes(content)
            if not self._pipe.poll(MAX_SECONDS):
                self._process.kill()
                return f"more than {MAX_SECONDS} s", 0, False
            outcome, rise = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            return f"ended with {self._process.exitcode}", 0, False
        if rise > MAX_RISE:
            self._process.kill()
            return f"memory rose by {rise / 1e6:.0f} MB", rise, False
        return outcome, rise, True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--keep", type=Path, default=Path("fuzzed"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng, files = np.random.default_rng(arguments.seed), seeds(arguments.images)
    counts, faults = Counter[tuple[str, str]](), 0
    slowest, most = 0.0, 0
    reader = Reader()
    reader.read(files[0][1])  # imports
    for codec, content in files:
        assert reader.read(content)[0] == DECODED, codec
    end = time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < end:
        codec, content = mutated(rng, files)
        begun = time.monotonic()
        outcome, rise, alive = reader.read(content)
        slowest, most = max(slowest, time.monotonic() - begun), max(most, rise)
        counts[codec, outcome] += 1
        if outcome not in (DECODED, REFUSED):
            faults += 1
            arguments.keep.mkdir(exist_ok=True)
            (arguments.keep / f"{counts.total()}.{codec.lower()}").write_bytes(content)
            print(f"{codec}: {outcome}", flush=True)
        if not alive:
            reader = Reader()
    for (codec, outcome), count in sorted(counts.items()):
        print(f"| {codec} | {outcome} | {count:,} |")
    print(f"| all | neither decoded nor refused: {faults} | {counts.total():,} |")
    print(f"slowest {slowest:.2f} s, largest rise of memory {most / 1e6:.0f} MB")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
