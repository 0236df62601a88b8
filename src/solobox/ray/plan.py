"""The plan of a run: which images are in which shard, by which model and with which settings.

It is written once, into ``_plan`` of the output folder, and a run that goes on reads it from there: ``inputs.parquet``
has the names, a row group for each shard; ``model.onnx`` is the model; ``plan.json`` says the rest and is written last.
"""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from solobox.errors import ConfigError, DataError
from solobox.predict.predictor import batched
from solobox.predict.writers import Columns
from solobox.ray.listing import is_list, listed
from solobox.ray.stores import Place, located, reading

FOLDER = "_plan"
"""Begins with an underscore, as what readers of Parquet folders pass over."""

_PLAN, _INPUTS, _MODEL = f"{FOLDER}/plan.json", f"{FOLDER}/inputs.parquet", f"{FOLDER}/model.onnx"
_VERSION = 1
_IMAGES = pa.schema([("image", pa.string())])

SHARD_SIZE = 1000
"""Images in a shard: a minute or so of one processor, and a file of about 100 kB."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for.

    level: probability of the margins, None for none. outer: the box that holds the whole object, instead of a margin
    for each edge. min_presence: no box for an image in which the object is with a probability below this.
    shard_size: images in a shard.
    """

    level: float | None = None
    outer: bool = False
    min_presence: float | None = None
    shard_size: int = SHARD_SIZE


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that is written.

    place: the output folder. key: tells the parts of this plan from those of others: a hash of names, model and
    settings. rows: images in all. made: when, in UTC. model: SHA-256 of its file. lists: SHA-256 of each input that
    is a list of images.
    """

    place: Place
    key: str
    rows: int
    made: str
    model: str
    inputs: tuple[str, ...]
    lists: dict[str, str]
    columns: Columns
    settings: Settings

    @property
    def shards(self) -> int:
        """Number of shards; all but the last have `Settings.shard_size` images."""
        return -(-self.rows // self.settings.shard_size)

    def part(self, shard: int) -> str:
        """Name of the file with the rows of a shard, counted from 0."""
        return f"part-{shard:0{max(5, len(str(self.shards - 1)))}d}.parquet"

    def rows_of(self, shard: int) -> int:
        """Images in a shard."""
        return min(self.settings.shard_size, self.rows - shard * self.settings.shard_size)

    def read_model(self) -> bytes:
        """The model's file. Raises DataError."""
        return self.place.read(_MODEL)

    def opened_inputs(self) -> parquet.ParquetFile:
        """The names of all images, in column ``image``; a row group for each shard. Raises DataError."""
        file = self.place.opened(_INPUTS)
        with reading(f"{self.place.url}/{_INPUTS}"):
            return parquet.ParquetFile(file)

    @classmethod
    def read(cls, output: str | Place) -> "Plan | None":
        """The plan in an output folder; None where there is none. Raises DataError for a damaged one."""
        place = output if isinstance(output, Place) else Place.at(output)
        if not place.has(_PLAN):
            return None
        return cls._from_json(place, place.read(_PLAN))

    @classmethod
    def _from_json(cls, place: Place, data: bytes) -> "Plan":
        try:
            given = json.loads(data)
            version = given.pop("version")
            if version != _VERSION:
                raise DataError(
                    f"{place.url}/{_PLAN} is of another version of Solobox (its layout is {version}, this one's "
                    f"{_VERSION}): go on with that one, or give another output folder"
                )
            given["columns"], given["settings"] = Columns(**given["columns"]), Settings(**given["settings"])
            return cls(place=place, **given | {"inputs": tuple(given["inputs"])})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{place.url}/{_PLAN} is damaged ({error!r}): give another output folder"
            ) from error

    def _to_json(self) -> bytes:
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "place"}
        plain |= {"columns": asdict(self.columns), "settings": asdict(self.settings)}
        return json.dumps({"version": _VERSION, **plain}, indent=2).encode()


def prepare(
    output: str, model: bytes, inputs: Sequence[str], columns: Columns, settings: Settings | None = None
) -> tuple[Plan, bool]:
    """The plan of an output folder, and whether it was there already.

    model: its file's bytes. inputs: see `listed`. columns: what rows say, as the model can and settings ask.

    A plan that is there is gone on with: nothing is listed again. Raises ConfigError where it is of other inputs,
    settings or another model, or a list of images has changed since; DataError where the folder holds something
    else, and for what cannot be listed or written.
    """
    settings = settings or Settings()
    if settings.shard_size < 1:
        raise ConfigError(f"a shard has 1 image or more, not {settings.shard_size}")
    place = Place.at(output)
    inputs = tuple(_absolute(item) for item in inputs)
    if (plan := Plan.read(place)) is not None:
        _check_same(plan, _sha256(model), inputs, columns, settings)
        return plan, True
    if others := {name for name in place.names() if not name.startswith((FOLDER, "."))}:
        raise DataError(
            f"{output} holds other things ({', '.join(sorted(others)[:3])}): give a folder of its own"
        )
    return _write(place, model, inputs, columns, settings), False


def _absolute(item: str) -> str:
    return item if "://" in item else Place.at(item).url


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(place: Place, model: bytes, inputs: tuple[str, ...], columns: Columns, settings: Settings) -> Plan:
    lists = {item: _sha256_of(item) for item in inputs if is_list(item)}
    about = {"model": _sha256(model), "columns": asdict(columns), "settings": asdict(settings)}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    rows = 0
    with tempfile.TemporaryDirectory(prefix="solobox-") as scratch:
        names = Path(scratch) / "inputs.parquet"
        with parquet.ParquetWriter(names, _IMAGES, compression="zstd") as writer:
            for group in batched(listed(inputs), settings.shard_size):
                try:
                    key.update("\n".join([*group, ""]).encode())
                except UnicodeEncodeError as error:
                    raise DataError(
                        f"{error.object.strip()!r} cannot be written as UTF-8; rename it"
                    ) from error
                writer.write_table(pa.table({"image": group}, _IMAGES), row_group_size=settings.shard_size)
                rows += len(group)
        if not rows:
            raise DataError("no images are given")
        place.put_file(_INPUTS, names)
    place.put(_MODEL, model)
    plan = Plan(
        place, key.hexdigest(), rows, datetime.now(UTC).isoformat(timespec="seconds"), _sha256(model), inputs, lists,
        columns, settings,
    )  # fmt: skip
    place.put(_PLAN, plan._to_json())  # noqa: SLF001
    return plan


def _sha256_of(item: str) -> str:
    store, path = located(item)
    with reading(item), store.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_same(
    plan: Plan, model: str, inputs: tuple[str, ...], columns: Columns, settings: Settings
) -> None:
    begun = f"{plan.place.url} was begun on {plan.made} with "
    remedy = ". Give another output folder, or go on as it was begun"
    if model != plan.model:
        raise ConfigError(
            f"{begun}another model (SHA-256 {plan.model[:12]}…, this one {model[:12]}…){remedy}"
        )
    if inputs != plan.inputs:
        raise ConfigError(f"{begun}other inputs ({_few(plan.inputs)}, now {_few(inputs)}){remedy}")
    wanted: dict[str, Any] = asdict(settings) | asdict(columns)
    had: dict[str, Any] = asdict(plan.settings) | asdict(plan.columns)
    if changed := [f"{name} {had[name]}, now {wanted[name]}" for name in wanted if wanted[name] != had[name]]:
        raise ConfigError(f"{begun}other settings ({'; '.join(changed)}){remedy}")
    for item, before in plan.lists.items():
        try:
            now = _sha256_of(item)
        except DataError:  # it was read when the plan was made, and is not needed again
            continue
        if now != before:
            raise ConfigError(f"{item} has changed since the run into {plan.place.url} was begun{remedy}")


def _few(inputs: tuple[str, ...]) -> str:
    return ", ".join(inputs[:3]) + (f" and {len(inputs) - 3} more" if len(inputs) > 3 else "")
