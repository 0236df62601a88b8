"""A million images through `predict --engine ray`, killed twenty times: `python bench/scale_predict.py`.

A few hundred drawn images, some of them damaged, are listed again and again until there are `--rows` of them, and
predicted by an exported model of random weights, small enough that the images and not the network take the time. The
run is killed with all its processes (SIGKILL) `--kills` times, at random moments in its first half, while it plans,
starts or works, and each time started again by the same command; its second half is left alone. Then every row is
checked against the list: there, once, in order, the same for the same image. The memory of all processes of the run
(PSS, so that what they share counts once) is taken twice a second; its slope is that of the last, long life.

`--engine local` does the shards in one process without Ray.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pyarrow import parquet

from solobox import synthetic
from solobox.ray import FolderJob

IMAGES = 300
DAMAGED = 3
WARM = 0.1
"""Share of a life's rows after which its memory counts for the slope: until then processes and buffers come up."""


def child(engine: str, model: str, names: str, output: str) -> int:
    if engine == "ray":
        from solobox.cli.predict import predict

        return predict(model, [names], output=output, engine="ray")
    from solobox.predict.job import in_threads, run
    from solobox.predict.writers import Columns
    from solobox.ray import prepare
    from solobox.ray.folder_job import load_model, read_model

    data = read_model(model)
    job, _ = prepare(output, data, [names], Columns())
    summary = run(job, in_threads(load_model(data)))
    return 1 if summary.errors or summary.failures else 0


def export_model(path: Path) -> None:
    import torch

    from solobox.config.architecture import Architecture
    from solobox.export import export
    from solobox.model.localizer import Localizer

    torch.manual_seed(0)
    shape = Architecture(backbone="test_efficientnet", size=64, width=16)
    export(Localizer(shape).eval(), path)


def write_inputs(folder: Path, rows: int) -> Path:
    """The images, the last ones damaged, and a list that names them `rows` times; one name is of no file."""
    synthetic.write(folder / "drawn", IMAGES, seed=1, size=(160, 120))
    images = sorted((folder / "drawn").rglob("*.jpg"))
    assert len(images) == IMAGES
    for path in images[-DAMAGED:]:
        path.write_bytes(path.read_bytes()[:200])
    names = [*map(str, images), str(folder / "lost.jpg")]
    path = folder / "names.txt"
    with path.open("w") as file:
        for row in range(rows):
            file.write(names[_image(row, len(names))] + "\n")
    return path


def _image(row: int, count: int) -> int:
    """Which image a row is of; not a simple cycle, so that rows of two shards never look alike by chance."""
    return (row * 7919 + row // count) % count


def processes_of(root: int) -> list[int]:
    """A process and all that it, and they, started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def megabytes(processes: Sequence[int]) -> float:
    total = 0
    for process in processes:
        try:
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1e3


@dataclass
class Life:
    """One start of the command: what was measured of it, a sample for each half second."""

    seconds: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    killed: bool = False
    status: int = 0


def rows_there(output: Path, shard: int, rows: int) -> int:
    parts = sum(1 for path in output.glob("part-*.parquet")) if output.is_dir() else 0
    return min(parts * shard, rows)


def live(
    command: Sequence[str], output: Path, rows: int, kill_at: int | None, delay: float, log: Path
) -> Life:
    """Run the command; kill it `delay` seconds after there are `kill_at` rows."""
    life, started, due = Life(), time.monotonic(), float("inf")
    environment = os.environ | {
        "PYTHONPYCACHEPREFIX": str(log.parent / "bytecode"),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    with log.open("a") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, start_new_session=True)
        while process.poll() is None:
            time.sleep(0.1 if due < float("inf") else 0.5)
            there, now = rows_there(output, 1000, rows), time.monotonic() - started
            family = processes_of(process.pid)
            life.seconds.append(now)
            life.rows.append(there)
            life.memory.append(megabytes(family))
            if kill_at is not None and there >= kill_at:
                due = min(due, now + delay)
            if now >= due:
                for one in family:
                    try:
                        os.kill(one, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                life.killed = True
                break
        life.status = process.wait()
    return life


def check(output: Path, names: Path, rows: int) -> tuple[int, int]:
    """Every row against the list; gives rows and errors."""
    job = FolderJob.open(str(output))
    assert job is not None
    assert job.plan.rows == rows
    seen: dict[str, tuple[object, ...]] = {}
    count = errors = 0
    with names.open() as listed:
        for shard in range(job.plan.shards):
            for row in parquet.read_table(output / job.part_name(shard)).to_pylist():
                assert row["image"] == next(listed).rstrip("\n"), f"row {count} is not the list's"
                values = tuple(row.values())
                assert seen.setdefault(row["image"], values) == values, (
                    f"row {count} differs from an earlier one"
                )
                count += 1
                errors += row["error"] is not None
        assert next(listed, None) is None, "rows are missing"
    parts = {job.part_name(shard) for shard in range(job.plan.shards)}
    assert {path.name for path in output.iterdir()} == parts | {"_plan", "_SUCCESS"}, (
        "something else lies there"
    )
    return count, errors


def moments(rows: int, kills: int) -> list[tuple[int, float]]:
    """After how many rows, and how many seconds later, each kill comes; the first while it plans."""
    drawn = np.random.default_rng(0)
    after = np.sort(drawn.integers(0, rows // 2, kills))
    after[:1] = 0
    return list(zip(after.tolist(), drawn.uniform(0, 3, kills).tolist(), strict=True))


def report(lives: Sequence[Life], rows: int, errors: int, seconds: float) -> None:
    print(f"rows in {rows:,}, rows out {rows:,}, each once and in order; {errors:,} with errors, as expected")
    killed = [life for life in lives if life.killed]
    idle = sum(life.rows[-1] == life.rows[0] for life in killed)
    print(
        f"{len(killed)} kills, {idle} of them before a new part; {seconds:.0f} s in all, {rows / seconds:.0f} rows/s"
    )
    last = lives[-1]
    print(f"memory: largest of any life {max(max(life.memory) for life in lives if life.memory):.0f} MB")
    done, memory = np.array(last.rows), np.array(last.memory)
    warm = done > done[0] + WARM * (rows - done[0])
    done, memory = done[warm], memory[warm]
    if len(set(done.tolist())) < 10:
        print("too few rows in the last life for a slope: give more --rows")
        return
    slope = np.polyfit(done, memory, 1)[0] * 1e5
    quarters = [float(part.mean()) for part in np.array_split(memory, 4)]
    print(
        f"last life: {rows - last.rows[0]:,} rows in {last.seconds[-1]:.0f} s; memory by quarter "
        f"{', '.join(f'{mean:.0f}' for mean in quarters)} MB, slope {slope:+.1f} MB for 100,000 rows"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--engine", choices=["ray", "local"], default="ray")
    parser.add_argument("--child", nargs=3, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        sys.exit(child(arguments.engine, *arguments.child))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        names, model, output = write_inputs(folder, arguments.rows), folder / "model.onnx", folder / "out"
        export_model(model)
        command = [
            sys.executable,
            __file__,
            "--engine",
            arguments.engine,
            "--child",
            str(model),
            str(names),
            str(output),
        ]
        started, lives = time.monotonic(), []
        for at, delay in moments(arguments.rows, arguments.kills):
            lives.append(live(command, output, arguments.rows, at, delay, folder / "log.txt"))
            if not lives[-1].killed:
                break
            print(
                f"killed at {lives[-1].rows[-1]:,} rows, {lives[-1].seconds[-1]:.0f} s after its start",
                flush=True,
            )
        if not lives or lives[-1].killed:
            lives.append(live(command, output, arguments.rows, None, 0.0, folder / "log.txt"))
        seconds = time.monotonic() - started
        # 1: some images could not be read, and nothing else is wrong
        if lives[-1].status != 1 or not (output / "_SUCCESS").is_file():
            sys.exit((folder / "log.txt").read_text()[-4000:])
        count, errors = check(output, names, arguments.rows)
        bad = {str(path) for path in sorted((folder / "drawn").rglob("*.jpg"))[-DAMAGED:]} | {
            str(folder / "lost.jpg")
        }
        with names.open() as listed:
            assert errors == sum(line.rstrip("\n") in bad for line in listed)
        report(lives, count, errors, seconds)


if __name__ == "__main__":
    main()
