"""How fast an exported model finds a box, on a CPU: `python bench/infer.py`, one processor, two, and another model.

Everything is interleaved, round by round, and told as a ratio of medians against a reference of the same rounds:

- one 224-pixel image, already decoded: our runtime against the bare session on the same graph, and against OpenVINO
  and int8;
- a folder of JPEGs to a CSV, by the job of `solobox predict -o`: images a second against the bare session at its best
  batch with images in memory, and against decoding alone on all processors;
- one image against YOLO11n's ONNX at 320 and 640 (``--yolo-env``: an environment of its own with ultralytics, which
  is AGPL and so never imported here; it writes the two files with random weights, for speed alone);
- import, load and first box in a fresh process; and what an environment weighs (``--env``).
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from datasets import caltech
from solobox.predict.job import in_threads, run
from solobox.predict.onnx_model import PIXELS, OnnxModel
from solobox.predict.output_file import SHARD_SIZE, OutputFile
from solobox.predict.plan import Plan
from solobox.predict.predictor import resize_to_square
from solobox.utils.concurrency import processors

SIDE = 224


def exported(path: Path, *, int8: bool = False) -> Path:
    """A model of the default parts at 224 pixels with the weights that every training starts from: speed alone."""
    import onnx

    from solobox.config.architecture import Architecture
    from solobox.export.graph import ExportGraph
    from solobox.export.onnx_file import to_onnx, training_metadata
    from solobox.export.quantize import quantize
    from solobox.model.localizer import Localizer

    localizer = Localizer(Architecture(size=SIDE), pretrained="bundled", pretrained_head="synthetic").eval()
    model = to_onnx(ExportGraph(localizer), training_metadata(localizer))
    if int8:
        images = caltech()[0].images[:64]
        model = quantize(model, [resize_to_square(image, SIDE).pixels for image in images])
    onnx.save(model, path)
    return path


def bare(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def interleaved(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each in every round, after one round that does not count."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if turn:
                took[name].append(time.perf_counter() - started)
    return took


def told(took: dict[str, list[float]], reference: str, scale: float = 1e3, unit: str = "ms") -> None:
    base = took[reference]
    for name, seconds in took.items():
        ratios = [own / other for own, other in zip(seconds, base, strict=True)]
        lower, middle, upper = np.percentile(ratios, [25, 50, 75])
        print(
            f"  {name:36s} {statistics.median(seconds) * scale:9.2f} {unit}   {middle:6.3f} of {reference}"
            f"  ({lower:.3f} to {upper:.3f})",
            flush=True,
        )


def one_image(floats: Path, integers: Path, yolo: Sequence[Path], threads: int, rounds: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    session = bare(floats, threads)
    model, vino = (
        OnnxModel.load(floats, threads=threads, runtime=name) for name in ("onnxruntime", "openvino")
    )
    small, small_model = bare(integers, threads), OnnxModel.load(integers, threads=threads)
    works: dict[str, Callable[[], object]] = {
        "bare session": lambda: session.run(None, {PIXELS: pixels[np.newaxis]}),
        "our runtime": lambda: model.predict(pixels),
        "our runtime, OpenVINO": lambda: vino.predict(pixels),
        "bare session, int8": lambda: small.run(None, {PIXELS: pixels[np.newaxis]}),
        "our runtime, int8": lambda: small_model.predict(pixels),
    }
    for path in yolo:
        other = bare(path, threads)
        given: Any = other.get_inputs()[0]
        image = np.random.default_rng(0).random(given.shape, dtype=np.float32)
        works[path.stem] = functools.partial(other.run, None, {given.name: image})
    print(f"one decoded {SIDE}-pixel image, {threads} threads, {rounds} rounds")
    took = interleaved(works, rounds)
    told(took, "bare session")
    for path in yolo:
        for ours in ("our runtime", "our runtime, int8"):
            ratios = np.array(took[path.stem]) / np.array(took[ours])
            print(f"  {path.stem} takes {np.median(ratios):.2f} times as long as {ours}")


def folder_to_csv(path: Path, images: list[str], rounds: int) -> None:
    model = OnnxModel.load(path)
    squares = np.stack([resize_to_square(image, SIDE).pixels for image in images])
    names = ["boxes", "std"]
    session, single = bare(path, processors()), bare(path, 1)

    def batched(size: int) -> None:
        for start in range(0, len(squares), size):
            session.run(names, {PIXELS: squares[start : start + size]})

    def in_parallel() -> None:
        with ThreadPoolExecutor(processors()) as pool:
            list(
                pool.map(
                    lambda at: single.run(names, {PIXELS: squares[at : at + 4]}), range(0, len(squares), 4)
                )
            )

    def decoding() -> None:
        with ThreadPoolExecutor(processors()) as pool:
            list(pool.map(lambda image: resize_to_square(image, SIDE).pixels, images))

    with tempfile.TemporaryDirectory() as folder:

        def ours() -> None:
            plan = Plan(model="", inputs="", rows=len(images), shard_size=SHARD_SIZE)
            with OutputFile.open(Path(folder) / "boxes.csv", plan, images) as job:
                run(job, in_threads(model))

        works: dict[str, Callable[[], object]] = {
            "folder to CSV": ours,
            **{f"in memory, batch {size}": functools.partial(batched, size) for size in (1, 4, 8, 16, 32)},
            "in memory, a session call a processor": in_parallel,
            "decoding alone": decoding,
        }
        took = interleaved(works, rounds)
    best = min(
        (name for name in took if name.startswith("in memory")),
        key=lambda name: statistics.median(took[name]),
    )
    print(f"a folder of {len(images)} JPEGs, {processors()} processors, {rounds} rounds; seconds")
    told(took, best, 1, "s")
    rate = np.median(np.array(took[best]) / np.array(took["folder to CSV"]))
    print(
        f"  folder to CSV: {len(images) / statistics.median(took['folder to CSV']):.1f} images a second, "
        f"{rate:.3f} of the session's best ({best})"
    )


def first_box(path: Path, image: str, rounds: int) -> None:
    code = (
        "import time; t = time.perf_counter()\n"
        "from solobox.predict.onnx_model import OnnxModel\n"
        f"a = time.perf_counter(); m = OnnxModel.load({str(path)!r}); b = time.perf_counter()\n"
        f"m.predict({image!r}); print(a - t, b - a, time.perf_counter() - b)"
    )
    rows = []
    for _ in range(rounds + 1):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        rows.append([float(value) for value in done.stdout.split()])
    imported, loaded, boxed = np.median(rows[1:], axis=0)
    print(
        f"import {imported:.2f} s, load {loaded:.2f} s, first box {boxed:.2f} s: {imported + loaded + boxed:.2f} s"
    )


def weighed(environment: Path) -> None:
    """The size of an environment and, of one with ultralytics, the time to its first box."""
    total = sum(
        path.lstat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink()
    )
    print(f"{environment}: {total / 1e6:.0f} MB")


_YOLO = """
import shutil, sys
from ultralytics import YOLO
for side in (320, 640):
    made = YOLO("yolo11n.yaml").export(format="onnx", imgsz=side, opset=17, simplify=False)
    shutil.move(made, f"yolo11n-{side}.onnx")
"""


def yolo_files(environment: Path | None, folder: Path) -> list[Path]:
    if environment is None:
        return []
    python = environment / "bin" / "python"
    quiet = os.environ | {"YOLO_CONFIG_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    subprocess.run([python, "-c", _YOLO], cwd=folder, check=True, capture_output=True, env=quiet)
    return [folder / f"yolo11n-{side}.onnx" for side in (320, 640)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, processors()])
    parser.add_argument("--yolo-env", type=Path)
    parser.add_argument("--env", type=Path, nargs="*", default=[], help="environments to weigh")
    arguments = parser.parse_args()
    images = [str(image) for image in caltech()[1].images]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        floats, integers = exported(folder / "a.onnx"), exported(folder / "int8.onnx", int8=True)
        print(json.dumps({"onnxruntime": onnxruntime.__version__, "processors": processors()}))
        yolo = yolo_files(arguments.yolo_env, folder)
        for threads in arguments.threads:
            one_image(floats, integers, yolo, threads, arguments.rounds)
        folder_to_csv(floats, images, max(arguments.rounds // 10, 3))
        first_box(floats, images[0], max(arguments.rounds // 6, 5))
    for environment in arguments.env:
        weighed(environment)


if __name__ == "__main__":
    main()
