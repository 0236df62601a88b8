import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from ray_standins import SizeAsBox, jpeg, load, new_bucket, one_by_one, size_of, write_images

from error_codes import has_code
from solobox.errors import ConfigError, DataError
from solobox.predict import job as predict_job
from solobox.predict import stores
from solobox.predict.job import Engine, Job, Outcome, Part, Task, in_threads, run
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from solobox.predict.writers import Columns
from solobox.ray import FolderJob, prepare
from solobox.ray.engine import Worker
from solobox.ray.store_folder import StoreFolder

MODEL = b"a model"


@pytest.fixture
def bucket() -> str:
    return new_bucket()


def planned(
    output: str | Path,
    inputs: Sequence[str | Path],
    size: int = 4,
    columns: Columns | None = None,
    **options: Any,
) -> FolderJob:
    job, _ = prepare(
        str(output),
        MODEL,
        [str(item) for item in inputs],
        columns or Columns(),
        PredictOptions(**options),
        shard_size=size,
    )
    return job


def rows_in(job: FolderJob) -> list[dict[str, Any]]:
    """All rows of the output folder, part after part."""
    parts = sorted(name for name in job.folder.names() if name.endswith(".parquet"))
    read = [parquet.read_table(pa.BufferReader(job.folder.read(part))) for part in parts]
    return [row for part in read for row in part.to_pylist()]


def fill(bucket: str, count: int) -> list[str]:
    store = fsspec.filesystem("memory")
    for number in range(count):
        store.pipe_file(f"{bucket}/in/{number:05d}.jpg", jpeg(size_of(number)))
    return [f"{StoreFolder.at(bucket).url}/in/{number:05d}.jpg" for number in range(count)]


class Counting:
    """An engine that counts what it did."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.done: list[int] = []

    def __call__(self, job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for outcome in self.engine(job, tasks):
            self.done.append(outcome.shard)
            yield outcome


class Bar:
    def __init__(self) -> None:
        self.total = self.at = 0
        self.note = ""

    def start(self, stage: str, total: int | None) -> None:
        self.total = total or 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.at, self.note = self.at + steps, note

    def say(self, text: str) -> None: ...


def test_a_row_for_each_image_of_a_bucket_in_order(bucket: str) -> None:
    names = fill(bucket, 10)
    job, bar = planned(f"{bucket}/out", [f"{bucket}/in"]), Bar()
    summary = run(job, one_by_one(load), bar)
    assert (summary.rows, summary.errors, summary.failures) == (10, 0, {})
    assert (bar.total, bar.at, bar.note) == (10, 10, "")
    rows = rows_in(job)
    assert [row["image"] for row in rows] == names
    assert [(row["x1"], row["y1"], row["x2"], row["y2"]) for row in rows] == [
        (0, 0, *size_of(number)) for number in range(10)
    ]
    assert [(row["width"], row["height"]) for row in rows] == [size_of(number) for number in range(10)]
    assert all(row["error"] is None for row in rows)
    assert job.folder.names() == {"_plan", "_SUCCESS", *(job.part_name(shard) for shard in range(3))}
    told = json.loads(job.folder.read("_SUCCESS"))
    assert (told["rows"], told["errors"], told["parts"]) == (10, 0, 3)


def test_the_engine_of_threads_does_a_folder_too(tmp_path: Path, bucket: str) -> None:
    fill(bucket, 6)
    local = write_images(tmp_path / "in", 5)
    inputs = [local[0], f"{bucket}/in", *local[1:]]
    rows = []
    for output, engine in (("threads", in_threads(SizeAsBox())), ("workers", one_by_one(load))):
        job = planned(tmp_path / output, inputs)
        assert run(job, engine).rows == 11
        rows.append(rows_in(job))
    assert rows[0] == rows[1]


def test_the_output_folder_is_a_parquet_data_set(tmp_path: Path) -> None:
    names = write_images(tmp_path / "in", 5)
    run(planned(tmp_path / "out", [tmp_path / "in"], 2), one_by_one(load))
    assert parquet.read_table(tmp_path / "out").column("image").to_pylist() == names


@pytest.mark.parametrize("remote", [True, False])
def test_what_is_wrong_with_an_image_is_in_its_row(tmp_path: Path, bucket: str, remote: bool) -> None:
    good, bad, empty = jpeg((30, 20)), b"\xff\xd8\xff not an image", b""
    if remote:
        root = StoreFolder.at(bucket).url
        for name, data in (("a.jpg", good), ("bad.jpg", bad), ("empty.jpg", empty), ("z.jpg", good)):
            fsspec.filesystem("memory").pipe_file(f"{bucket}/{name}", data)
    else:
        root = str(tmp_path)
        for name, data in (("a.jpg", good), ("bad.jpg", bad), ("empty.jpg", empty), ("z.jpg", good)):
            (tmp_path / name).write_bytes(data)
    asked = [
        f"{root}/a.jpg",
        f"{root}/bad.jpg",
        f"{root}/lost.jpg",
        f"{root}/empty.jpg",
        f"{root}/z.jpg",
        "nn://x/a",
    ]
    (tmp_path / "list.txt").write_text("\n".join(asked))
    job, bar = planned(tmp_path / "out", [tmp_path / "list.txt"], 3), Bar()
    summary = run(job, one_by_one(load), bar)
    assert (summary.rows, summary.errors, bar.note) == (6, 4, "4 with errors")
    rows = rows_in(job)
    assert [row["image"] for row in rows] == asked
    assert [row["x2"] for row in rows] == [30, None, None, None, 30, None]
    assert [row["width"] for row in rows] == [30, None, None, None, 30, None]
    errors = [row["error"] or "" for row in rows]
    for error, name, told in zip(
        errors,
        asked,
        (
            "",
            "damaged or of an unsupported kind",
            "there is no such file",
            "the file is empty",
            "",
            "Protocol not known",
        ),
        strict=True,
    ):
        assert (name in error) == bool(told)
        assert told in error
        assert "bytes:" not in error


def test_options_reach_the_model_and_the_rows(tmp_path: Path) -> None:
    class Sure(SizeAsBox):
        def rows(self, images: Iterable[str | bytes], options: PredictOptions) -> Iterator[Prediction]:
            assert options == PredictOptions(outer=0.8, min_presence=0.02)
            for found in super().rows(images, options):
                yield Prediction(
                    found.image,
                    found.box,
                    found.size,
                    found.std,
                    found.box - 1,
                    found.box + 1,
                    found.presence,
                )

    write_images(tmp_path / "in", 8)
    job = planned(
        tmp_path / "out", [tmp_path / "in"], columns=Columns("outer", presence=True),
        outer=0.8, min_presence=0.02,
    )  # fmt: skip
    run(job, one_by_one(lambda _: Sure()))
    for number, row in enumerate(rows_in(job)):
        width, height = size_of(number)
        there = width / 200 >= 0.02
        assert row["presence"] == round(width / 200, 4)
        assert (row["x2"], row["y2"]) == ((width, height) if there else (None, None))
        assert (row["x1_outer"], row["x2_outer"]) == ((-1, width + 1) if there else (None, None))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), size=st.integers(1, 6))
def test_a_run_that_dies_again_and_again_ends_with_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    names = write_images(folder / "in", 9)

    class Cut(Exception):  # noqa: N818
        pass

    def dying(job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
        lives = data.draw(st.integers(0, 3))
        for number, outcome in enumerate(one_by_one(load)(job, tasks)):
            if number == lives:
                raise Cut  # its part is written, and nobody was told
            yield outcome

    done: list[int] = []
    for _ in range(20):
        counting = Counting(dying)
        try:
            summary = run(planned(folder / "out", [folder / "in"], size), counting)
        except Cut:
            done += counting.done
        else:
            done += counting.done
            break
    else:
        summary = run(planned(folder / "out", [folder / "in"], size), one_by_one(load))
    assert (summary.rows, summary.failures) == (9, {})
    assert len(done) == len(set(done))
    assert [row["image"] for row in rows_in(planned(folder / "out", [folder / "in"], size))] == names


def test_what_is_done_is_never_done_again(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 12)
    job = planned(tmp_path / "out", [tmp_path / "in"])
    run(job, one_by_one(load))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    counting, bar = Counting(one_by_one(load)), Bar()
    assert run(job, counting, bar).rows == 12
    assert counting.done == []
    assert bar.at == 12
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    (tmp_path / "out" / job.part_name(1)).unlink()
    run(job, counting)
    assert counting.done == [1]


def test_a_worker_leaves_a_part_that_another_one_wrote(tmp_path: Path) -> None:
    """As after a machine was lost when it had written a part and not told of it."""
    write_images(tmp_path / "in", 8)
    job = planned(tmp_path / "out", [tmp_path / "in"])
    assert Worker(str(tmp_path / "out"), load).do(Task(1)) == Part(4, 0)

    def never(model: bytes) -> SizeAsBox:
        raise AssertionError("nothing is to be done")

    assert Worker(str(tmp_path / "out"), never).do(Task(1)) == Part(4, 0)
    assert run(job, one_by_one(load)).rows == 8


def test_workers_have_the_limit_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "in", 4)
    monkeypatch.setenv("SOLOBOX_MAX_PIXELS", "1")
    prepare(str(tmp_path / "out"), MODEL, [str(tmp_path / "in")], Columns())
    monkeypatch.delenv("SOLOBOX_MAX_PIXELS")  # as on another machine
    with pytest.raises(ConfigError, match="--max-pixels", check=has_code("plan-differs")):
        prepare(str(tmp_path / "out"), MODEL, [str(tmp_path / "in")], Columns())
    assert Worker(str(tmp_path / "out"), load).do(Task(0)) == Part(4, 4)


@pytest.mark.parametrize("harm", ["cut", "rows", "other"])
def test_a_part_that_is_damaged_or_of_another_run_is_made_anew(tmp_path: Path, harm: str) -> None:
    names = write_images(tmp_path / "in", 8)
    job = planned(tmp_path / "out", [tmp_path / "in"])
    run(job, one_by_one(load))
    part = tmp_path / "out" / job.part_name(0)
    if harm == "cut":
        part.write_bytes(part.read_bytes()[:-9])
    elif harm == "rows":
        parquet.write_table(parquet.read_table(part).slice(0, 3), part)
    else:
        parquet.write_table(parquet.read_table(part).replace_schema_metadata({}), part)
    counting = Counting(one_by_one(load))
    assert run(job, counting).failures == {}
    assert counting.done == [0]
    assert [row["image"] for row in rows_in(job)] == names


def test_a_shard_that_fails_again_and_again_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 12)

    class Picky(SizeAsBox):
        def rows(self, images: Iterable[str | bytes], options: PredictOptions) -> Iterator[Prediction]:
            for found in super().rows(images, options):
                if found.size == size_of(5):
                    raise ZeroDivisionError("a fault of the runtime")
                yield found

    job, counting = planned(tmp_path / "out", [tmp_path / "in"]), Counting(one_by_one(lambda _: Picky()))
    summary = run(job, counting)
    assert summary.failures == {"part-00001.parquet": "ZeroDivisionError: a fault of the runtime"}
    assert summary.rows == 8
    assert counting.done == [0, 1, 2, 1, 1]
    assert job.folder.names() == {"_plan", "part-00000.parquet", "part-00002.parquet"}
    assert run(job, one_by_one(load)).failures == {}
    assert job.folder.has("_SUCCESS")


def test_shards_that_an_engine_loses_are_done_by_the_next_pass(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 20)

    def forgetful(job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
        yield from one_by_one(load)(job, tasks[:2])

    assert run(planned(tmp_path / "out", [tmp_path / "in"]), forgetful).failures == {}

    def silent(job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
        yield from ()

    summary = run(planned(tmp_path / "none", [tmp_path / "in"]), silent)
    assert len(summary.failures) == 5
    assert "lost" in summary.failures["part-00000.parquet"]


def test_parts_that_are_written_where_they_cannot_be_seen_are_errors(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 4)

    def elsewhere(job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
        yield from (Outcome(task.shard, Part(4, 0)) for task in tasks)

    summary = run(planned(tmp_path / "out", [tmp_path / "in"]), elsewhere)
    assert "All machines must see the same output folder" in summary.failures["part-00000.parquet"]
    with pytest.raises(DataError, check=has_code("plan-missing")):
        Worker(str(tmp_path / "nowhere"), load).do(Task(0))


class Shaky(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A store that fails as often as it is told to, for each file."""

    protocol = "shaky"
    failures = 0
    asked: dict[str, int] = {}  # noqa: RUF012

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        self.asked[path] = self.asked.get(path, 0) + 1
        if "out" in path and self.asked[path] <= self.failures:
            raise ConnectionError("no route to host")
        return jpeg((7, 9))


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch) -> type[Shaky]:
    fsspec.register_implementation("shaky", Shaky, clobber=True)
    monkeypatch.setattr(stores, "_PAUSE", 0.0)
    Shaky.asked.clear()
    return Shaky


def test_an_image_out_of_reach_is_tried_again_and_then_an_error(tmp_path: Path, shaky: type[Shaky]) -> None:
    (tmp_path / "list.txt").write_text("\n".join(f"shaky://{name}" for name in ("out1", "in2", "in3")))
    shaky.failures = 2
    assert run(planned(tmp_path / "two", [tmp_path / "list.txt"]), one_by_one(load)).errors == 0
    shaky.failures, shaky.asked = 3, {}
    job = planned(tmp_path / "three", [tmp_path / "list.txt"])
    assert run(job, one_by_one(load)).errors == 1
    assert [row["error"] or "" for row in rows_in(job)] == [
        "shaky://out1: cannot be read (no route to host). Check the path and permissions.", "", "",
    ]  # fmt: skip


def test_an_outage_is_not_taken_for_the_images_fault(tmp_path: Path, shaky: type[Shaky]) -> None:
    names = [f"shaky://in{number}" for number in range(40)]
    names[20:40] = [f"shaky://out{number}" for number in range(20)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    job = planned(tmp_path / "out", [tmp_path / "list.txt"], 20)
    shaky.failures = 10**6
    summary = run(job, one_by_one(load))
    assert list(summary.failures) == ["part-00001.parquet"]
    assert "20 of 20 images cannot be downloaded" in summary.failures["part-00001.parquet"]
    assert "no route to host" in summary.failures["part-00001.parquet"]
    shaky.failures = 0
    summary = run(job, one_by_one(load))
    assert (summary.rows, summary.errors, summary.failures) == (40, 0, {})


def test_a_package_that_is_missing_is_no_images_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    (tmp_path / "list.txt").write_text("s3://bucket/a.jpg\n/lost.jpg\n")
    summary = run(planned(tmp_path / "out", [tmp_path / "list.txt"]), one_by_one(load))
    assert summary.failures == {"part-00000.parquet": "s3://bucket/a.jpg: Install s3fs to access S3"}


def test_few_images_are_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    ahead: list[int] = []

    def fetch(name: str) -> str:
        read.append(name)
        return name

    class TakesOne(SizeAsBox):
        def rows(self, images: Iterable[str | bytes], options: PredictOptions) -> Iterator[Prediction]:
            for taken, item in enumerate(images, start=1):
                ahead.append(len(read) - taken)
                yield Prediction(str(item), np.zeros(4), (1, 1))

    monkeypatch.setattr(predict_job, "fetch", fetch)
    (tmp_path / "list.txt").write_text("".join(f"s3://{number}.jpg\n" for number in range(1000)))
    summary = run(
        planned(tmp_path / "out", [tmp_path / "list.txt"], size=1000), one_by_one(lambda _: TakesOne())
    )
    assert (summary.rows, len(read)) == (1000, 1000)
    assert max(ahead) <= 32


def test_what_killed_runs_left_is_removed_when_all_is_done(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 4)
    job = planned(tmp_path / "out", [tmp_path / "in"])
    leftover, other = tmp_path / "out" / ".part-00000.parquet.0a1b2c3d.part", tmp_path / "out" / ".notes"
    leftover.touch()
    other.touch()
    run(job, one_by_one(load))
    assert not leftover.exists()
    assert other.exists()


def test_an_output_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 4)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match=r"out.*"):
        planned(tmp_path / "out", [tmp_path / "in"])
    assert (tmp_path / "out").read_text() == "a file"
