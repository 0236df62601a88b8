"""A job whose output is a folder of Parquet files in any store, one for each shard.

All that workers need is in the subfolder ``_plan``: ``inputs.parquet`` with the image names, a row group for each
shard, ``model.onnx``, and ``plan.json``, which is written last.
"""

import hashlib
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from solobox.errors import ConfigError, DataError
from solobox.images.pixel_limit import allowed_pixels
from solobox.predict.inputs import LeftOut, iter_images
from solobox.predict.job import Job, JobSummary, Part
from solobox.predict.lists import is_list
from solobox.predict.onnx_model import OnnxModel
from solobox.predict.plan import Plan
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions, batched
from solobox.predict.stores import is_url, locate, reading
from solobox.predict.writers import Columns, parquet_schema
from solobox.ray.store_folder import StoreFolder
from solobox.utils.json_utils import parse_json
from solobox.utils.text import printable

SHARD_SIZE = 1000
"""Images in a shard: a minute or so of one processor, and a file of about 100 kB."""
SUCCESS = "_SUCCESS"
"""The file that marks an output folder as complete, as in Hadoop and Spark."""

_FOLDER = "_plan"  # readers of Parquet folders skip names that begin with an underscore
_PLAN, _INPUTS, _MODEL = f"{_FOLDER}/plan.json", f"{_FOLDER}/inputs.parquet", f"{_FOLDER}/model.onnx"
_IMAGES = pa.schema([("image", pa.string())])
_KEY, _ERRORS, _ABSENT = "solobox.plan", "solobox.errors", "solobox.absent"
_CHECKERS = 16


class FolderJob(Job):
    """An output folder with its plan. Created by `prepare`, opened by `open`.

    key: hash of the image names and the plan, stored in each part. started: UTC time.
    """

    def __init__(self, folder: StoreFolder, plan: Plan, *, key: str, started: str) -> None:
        self.folder, self.plan, self.key, self.started = folder, plan, key, started
        self._names: parquet.ParquetFile | None = None

    @classmethod
    def open(cls, output: str | StoreFolder) -> "FolderJob | None":
        """The job of an output folder, None where there is none. Raises as `Plan.from_json`."""
        folder = output if isinstance(output, StoreFolder) else StoreFolder.at(output)
        if not folder.has(_PLAN):
            return None
        name = f"{folder.url}/{_PLAN}"
        plan, more = Plan.from_json(folder.read(_PLAN), name)
        if set(more) != {"key", "started"}:
            raise DataError(f"{name} is damaged: give another output", code="plan-damaged")
        return cls(folder, plan, **more)

    def part_name(self, shard: int) -> str:
        """The file with the rows of a shard."""
        return f"part-{shard:0{max(5, len(str(self.plan.shards - 1)))}d}.parquet"

    def names(self, shard: int) -> list[str]:
        """See `Job`."""
        with reading(f"{self.folder.url}/{_INPUTS}"):
            self._names = self._names or parquet.ParquetFile(self.folder.opened(_INPUTS))
            names: list[str] = self._names.read_row_group(shard).column("image").to_pylist()
        return names

    def read_model(self) -> bytes:
        """The model's file. Raises DataError."""
        return self.folder.read(_MODEL)

    def has_part(self, shard: int) -> bool:
        """Whether a shard has a part, which may be damaged."""
        return self.folder.has(self.part_name(shard))

    def read_part(self, shard: int) -> Part:
        """The counts of a part, from its footer.

        Raises DataError if it is damaged, belongs to another plan, or has another number of rows than images.
        """
        name = f"{self.folder.url}/{self.part_name(shard)}"
        with self.folder.opened(self.part_name(shard)) as file, reading(name):
            footer = parquet.read_metadata(file)
            counts: Mapping[bytes, bytes] = footer.metadata or {}
        if counts.get(_KEY.encode()) != self.key.encode():
            raise DataError(f"{name} belongs to another run", code="part-damaged")
        if footer.num_rows != self.plan.rows_of(shard):
            raise DataError(
                f"{name} has {footer.num_rows} rows, not {self.plan.rows_of(shard)}", code="part-damaged"
            )
        return Part(footer.num_rows, int(counts[_ERRORS.encode()]), int(counts[_ABSENT.encode()]))

    def check(self, parts: dict[int, Part]) -> dict[int, str]:
        """See `Job`."""
        files = self.folder.names()
        new = [
            shard
            for shard in range(self.plan.shards)
            if shard not in parts and self.part_name(shard) in files
        ]
        damaged: dict[int, str] = {}

        def read(shard: int) -> Part | str:
            try:
                return self.read_part(shard)
            except DataError as error:
                return str(error)

        with ThreadPoolExecutor(_CHECKERS, thread_name_prefix="checking") as pool:
            for shard, part in zip(new, pool.map(read, new), strict=True):
                if isinstance(part, Part):
                    parts[shard] = part
                else:
                    damaged[shard] = part
        return damaged

    def put(self, shard: int, predictions: Sequence[Prediction]) -> Part:
        """See `Job`. Any worker may store any shard."""
        part = Part.of(predictions)
        counts = {_KEY: self.key, _ERRORS: str(part.errors), _ABSENT: str(part.absent)}
        columns = self.plan.columns
        rows = pa.Table.from_pylist(
            [columns.record(each) for each in predictions], schema=parquet_schema(columns)
        )
        file = io.BytesIO()
        parquet.write_table(rows.replace_schema_metadata(counts), file, compression="zstd")
        self.folder.put(self.part_name(shard), file.getvalue())
        return part

    def finish(self, summary: JobSummary) -> None:
        """See `Job`: write ``_SUCCESS`` with the counts."""
        self.folder.remove_unfinished()
        with suppress(DataError, ValueError, TypeError, KeyError):
            if parse_json(self.folder.read(SUCCESS))["plan"] == self.key:
                return
        counts = {
            "rows": summary.rows, "errors": summary.errors, "parts": self.plan.shards, "plan": self.key,
            "model": self.plan.model, "started": self.started, "finished": _now(),
        }  # fmt: skip
        self.folder.put(SUCCESS, json.dumps(counts, indent=2).encode())


def prepare(
    output: str,
    model: bytes,
    inputs: Sequence[str],
    columns: Columns,
    options: PredictOptions | None = None,
    *,
    shard_size: int = SHARD_SIZE,
    left_out: LeftOut | None = None,
) -> tuple[FolderJob, bool]:
    """The job of an output folder, and whether it is resumed.

    output: a folder in any store. model: the bytes of its file. inputs: see `iter_images`. columns: of the rows, as
    the model and the options allow. left_out: what is passed over in folders is added to it.

    A resumed job keeps its list of images: nothing is listed again. Raises ConfigError ``plan-differs`` for other
    inputs, options or another model, or if a list of images has changed since; DataError ``output-foreign`` if the
    folder contains something else, and for what cannot be listed or written.
    """
    folder = StoreFolder.at(output)
    inputs = tuple(item if is_url(item) else StoreFolder.at(item).url for item in inputs)
    job = FolderJob.open(folder)
    before = job.plan.settings if job else {}
    plan = Plan(
        model=hashlib.sha256(model).hexdigest(),
        inputs="\n".join(inputs),
        rows=job.plan.rows if job else 0,
        shard_size=shard_size,
        options=options or PredictOptions(),
        columns=columns,
        settings={
            "--max-pixels": allowed_pixels(),
            **{f"the list {item}": _hash_of_list(item, before) for item in inputs if is_list(item)},
        },
    )
    if job:
        job.plan.check_same(plan, folder.url)
        return job, True
    if others := {name for name in folder.names() if not name.startswith((_FOLDER, "."))}:
        raise DataError(
            f"{output} is not empty ({', '.join(sorted(others)[:3])}): choose another folder",
            code="output-foreign",
        )
    return _write(folder, model, inputs, plan, left_out), False


def _hash_of_list(item: str, before: Mapping[str, Any]) -> str:
    """SHA-256 of a list of images; of a list that was deleted since the job started, the stored one."""
    try:
        store, path = locate(item)
        with reading(item), store.open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except DataError:
        if (stored := before.get(f"the list {item}")) is None:
            raise
        return str(stored)


def _write(
    folder: StoreFolder, model: bytes, inputs: Sequence[str], plan: Plan, left_out: LeftOut | None
) -> FolderJob:
    key = hashlib.sha256(plan.to_json().encode())
    rows = 0
    with tempfile.TemporaryDirectory(prefix="solobox-") as scratch:
        names = Path(scratch) / "inputs.parquet"
        with parquet.ParquetWriter(names, _IMAGES, compression="zstd") as writer:
            for group in batched(iter_images(inputs, left_out), plan.shard_size):
                group = list(map(printable, group))
                key.update("\n".join([*group, ""]).encode())
                writer.write_table(pa.table({"image": group}, _IMAGES), row_group_size=plan.shard_size)
                rows += len(group)
        if not rows:
            raise DataError("there are no images", code="no-images")
        folder.put_file(_INPUTS, names)
    folder.put(_MODEL, model)
    job = FolderJob(folder, replace(plan, rows=rows), key=key.hexdigest(), started=_now())
    folder.put(_PLAN, job.plan.to_json(key=job.key, started=job.started).encode())
    return job


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# The model ------------------------------------------------------------------------------------------


def read_model(model: str) -> bytes:
    """The bytes of an exported model's file in any store. Raises ConfigError for a folder, DataError as `reading`."""
    store, path = locate(model)
    with reading(model):
        is_folder = store.isdir(path)
    if is_folder:
        raise ConfigError(
            f"{model} is a folder: give a model that `solobox export` made, an .onnx file", code="not-a-model"
        )
    with reading(model):
        return bytes(store.cat_file(path))


def load_model(model: bytes) -> OnnxModel:
    """A model that uses one thread, as there is a worker for each processor. Raises ConfigError for any other file."""
    with tempfile.TemporaryDirectory(prefix="solobox-") as scratch:
        path = Path(scratch) / "model.onnx"
        path.write_bytes(model)
        return OnnxModel.load(path, threads=1)
