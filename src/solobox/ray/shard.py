"""One shard: its images are read, its rows are written, once."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from pyarrow import parquet

from solobox.errors import DataError, reason
from solobox.images.reading import MAX_BYTES
from solobox.predict.prediction import Prediction
from solobox.ray.plan import Plan
from solobox.ray.rows import table, to_bytes
from solobox.ray.stores import is_local, located, reading
from solobox.utils.concurrency import threaded_map

_READERS = 16
"""Images that are read at the same time. They wait for the network, not for the processor."""
_TRIES = 3
_PAUSE = 0.5
"""Seconds before a second try to read an image; the third waits twice as long."""
_OUTAGE = 10
"""So many images out of reach, and more than half of a shard, and it is the network and not the images."""

_KEY, _ERRORS = "solobox.plan", "solobox.errors"


class Predictor(Protocol):
    """What is needed of a model: see `solobox.predict.onnx_model.Model`."""

    def stream(
        self, inputs: Iterable[str | bytes], *, level: float | None, outer: bool
    ) -> Iterator[Prediction]:
        """One prediction for each input, in order."""
        ...


Load: TypeAlias = Callable[[bytes], Predictor]
"""Makes a predictor of the bytes of a model's file. Has to be importable where workers run."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a finished part says of itself: rows, and how many of them have an error."""

    rows: int
    errors: int


@dataclass(frozen=True, slots=True)
class _Unread:
    why: str
    unreachable: bool = False


class Worker:
    """Predicts shard after shard of the plan in an output folder; the model is loaded once, with the first.

    begin: is told of each shard before any of its images is looked at, and may refuse it by a DataError.
    """

    def __init__(self, output: str, load: Load, begin: Callable[[int], None] | None = None) -> None:
        self._output, self._load, self._begin = output, load, begin
        self._plan: Plan | None = None
        self._model: Predictor | None = None
        self._inputs: parquet.ParquetFile | None = None

    def do(self, shard: int, *, again: bool = False) -> Part:
        """See to it that the part of a shard is there. again: make it anew, whatever is there.

        Raises whatever goes wrong with the shard as a whole; what is wrong with an image is in its row.
        """
        plan = self._plan = self._plan or Plan.read(self._output)
        if plan is None:
            raise DataError(
                f"{self._output}: the plan of the run is not there. All machines have to see the same output folder: "
                "give one in an object store or a shared file system"
            )
        if not again and plan.place.has(plan.part(shard)):
            return read_part(plan, shard)  # a machine was lost after it was written
        if self._begin is not None:
            self._begin(shard)
        self._model = self._model or self._load(plan.read_model())
        self._inputs = self._inputs or plan.opened_inputs()
        with reading(f"{plan.place.url}: shard {shard}"):
            names: list[str] = self._inputs.read_row_group(shard).column("image").to_pylist()
        predictions = _predicted(plan, self._model, names)
        errors = sum(bool(prediction.error) for prediction in predictions)
        facts = {_KEY: plan.key, _ERRORS: str(errors)}
        plan.place.put(plan.part(shard), to_bytes(table(plan.columns, predictions), facts))
        return Part(len(predictions), errors)


def read_part(plan: Plan, shard: int) -> Part:
    """What a part says of itself, from its footer.

    Raises DataError where it is damaged, of another plan, or has not one row for each image.
    """
    name = f"{plan.place.url}/{plan.part(shard)}"
    with plan.place.opened(plan.part(shard)) as file, reading(name):
        footer = parquet.read_metadata(file)
        facts: Mapping[bytes, bytes] = footer.metadata or {}
    if facts.get(_KEY.encode()) != plan.key.encode():
        raise DataError(f"{name} is of another run")
    if footer.num_rows != plan.rows_of(shard):
        raise DataError(f"{name} has {footer.num_rows} rows, not {plan.rows_of(shard)}")
    return Part(footer.num_rows, int(facts[_ERRORS.encode()]))


def _predicted(plan: Plan, model: Predictor, names: Sequence[str]) -> list[Prediction]:
    rows: list[Prediction | None] = [None] * len(names)
    given: deque[tuple[int, str]] = deque()  # which the model has, and what it calls them
    unreachable: list[str] = []

    def readable() -> Iterator[str | bytes]:
        for index, found in enumerate(threaded_map(_fetched, names, workers=_READERS)):
            if isinstance(found, _Unread):
                rows[index] = Prediction(names[index], error=found.why)
                if found.unreachable:
                    unreachable.append(found.why)
            else:
                given.append((index, "" if isinstance(found, str) else f"the image of {len(found)} bytes"))
                yield found

    least, settings = plan.settings.min_presence, plan.settings
    for prediction in model.stream(readable(), level=settings.level, outer=settings.outer):
        index, called = given.popleft()
        error = prediction.error
        if called and error.startswith(called):
            error = names[index] + error.removeprefix(called)
        prediction = replace(prediction, image=names[index], error=error)
        rows[index] = prediction if least is None else prediction.if_present(least)
    if len(unreachable) >= _OUTAGE and 2 * len(unreachable) > len(names):
        raise DataError(
            f"{len(unreachable)} of its {len(names)} images are out of reach, as {unreachable[0]}. "
            "Run again when they can be reached"
        )
    done = [row for row in rows if row is not None]
    if len(done) != len(names):
        raise RuntimeError(f"the model gave {len(done)} rows for {len(names)} images")
    return done


def _fetched(name: str) -> str | bytes | _Unread:
    """An image file's bytes, or the path of a local one, which the model reads itself; or why it cannot be had.

    Raises DataError where a package is missing: that is no image's fault.
    """
    try:
        store, path = located(name)
    except DataError as error:
        if isinstance(error.__cause__, ImportError):
            raise
        return _Unread(str(error))
    if is_local(store):
        return path
    for pause in (*(_PAUSE * 2**n for n in range(_TRIES - 1)), None):
        try:
            # One byte more than an image may have: whatever is larger is refused by its length.
            return bytes(store.cat_file(path, start=0, end=MAX_BYTES + 1))
        except FileNotFoundError:
            return _Unread(f"{name}: there is no such file. Check the path.")
        except IsADirectoryError:
            return _Unread(f"{name}: this is a folder, not an image. Give the images in it.")
        except Exception as error:  # noqa: BLE001 (each store has exceptions of its own)
            why = reason(error)
        if pause is not None:
            time.sleep(pause)
    return _Unread(f"{name}: cannot be read ({why}). Check the path and permissions.", unreachable=True)
