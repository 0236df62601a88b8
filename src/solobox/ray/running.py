"""Working off a plan: what is left of it is done, checked and counted, by whatever does the shards."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

from solobox.errors import DataError, reason
from solobox.ray.plan import Plan
from solobox.ray.shard import Load, Part, Worker, read_part

SUCCESS = "_SUCCESS"
"""The file that says, as with other tools, that an output folder is complete."""

_FRUITLESS = 2
"""Passes in a row without a new part after which the rest is given up. A pass tries each shard several times."""
_CHECKERS = 16


@dataclass(frozen=True, slots=True)
class Task:
    """A shard to do; `again` where there is a part of it that is damaged."""

    shard: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a shard: its part, or why there is none."""

    shard: int
    part: Part | None
    failure: str = ""


Engine: TypeAlias = Callable[[Plan, Sequence[Task]], Iterator[Outcome]]
"""Does shards, in any order and wherever it likes. One that it loses without a word is tried again."""


class Progress(Protocol):
    """Is told how far a run is; `solobox.cli.console.Bars` is one."""

    def start(self, stage: str, total: int) -> None:
        """A stage of so many images begins."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """So many images more are done."""


class _Silent:
    def start(self, stage: str, total: int) -> None: ...
    def advance(self, steps: int = 1, note: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Summary:
    """What an output folder holds.

    rows: counted in the parts' footers. errors: of them, images without a box because something was wrong.
    failures: why, for each shard that is missing, by the name of its part; empty when the run is complete.
    """

    rows: int
    errors: int
    failures: dict[str, str] = field(default_factory=dict)


def here(load: Load) -> Engine:
    """An engine that does one shard after the other in this process."""

    def engine(plan: Plan, tasks: Sequence[Task]) -> Iterator[Outcome]:
        worker = Worker(plan.place.url, load)
        for task in tasks:
            yield attempted(worker, task)

    return engine


def attempted(worker: Worker, task: Task) -> Outcome:
    """Do a shard; what went wrong with it is its outcome and not an exception."""
    try:
        return Outcome(task.shard, worker.do(task.shard, again=task.again))
    except Exception as error:  # noqa: BLE001 (one shard does not stop the others)
        told = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {reason(error)}"
        return Outcome(task.shard, None, told)


def run(plan: Plan, engine: Engine, progress: Progress | None = None) -> Summary:
    """Do the shards of a plan that are not done, and check that there is one row for each image.

    A shard whose part is there and in order is never done again. Failed and lost ones are tried again as long as that
    brings new parts, and a little longer; damaged parts are replaced. When all are there, ``_SUCCESS`` is written.
    Raises DataError where the output folder cannot be read or written.
    """
    progress = progress or _Silent()
    parts: dict[int, Part] = {}
    failures: dict[int, str] = {}
    damaged = _check(plan, parts)
    errors = sum(part.errors for part in parts.values())
    progress.start("predicting", plan.rows)
    progress.advance(sum(part.rows for part in parts.values()), _note(errors))
    fruitless = 0
    while len(parts) < plan.shards and fruitless < _FRUITLESS:
        before = len(parts)
        tasks = [Task(shard, shard in damaged) for shard in range(plan.shards) if shard not in parts]
        failures = dict.fromkeys((task.shard for task in tasks), "its worker was lost, again and again")
        for outcome in engine(plan, tasks):
            if outcome.part is None:
                failures[outcome.shard] = outcome.failure
            elif (
                failures.pop(outcome.shard, None) is not None
            ):  # each counts once, however often it is told of
                errors += outcome.part.errors
                progress.advance(outcome.part.rows, _note(errors))
        told = {task.shard for task in tasks} - failures.keys()
        damaged = _check(plan, parts)
        failures |= damaged
        for shard in told - parts.keys() - damaged.keys():
            failures[shard] = (
                "it was written, and is not to be seen from here. All machines have to see the same output folder: "
                "give one in an object store or a shared file system"
            )
        errors = sum(part.errors for part in parts.values())
        fruitless = 0 if len(parts) > before else fruitless + 1
    summary = Summary(
        sum(part.rows for part in parts.values()),
        errors,
        {plan.part(shard): failures[shard] for shard in sorted(failures) if shard not in parts},
    )
    if not summary.failures:
        _succeed(plan, summary)
    return summary


def _note(errors: int) -> str:
    return f"{errors:,} with errors" if errors else ""


def _check(plan: Plan, parts: dict[int, Part]) -> dict[int, str]:
    """Add to `parts` those that are there and in order; gives what is wrong with others."""
    there = plan.place.names()
    unknown = [shard for shard in range(plan.shards) if shard not in parts and plan.part(shard) in there]
    wrong: dict[int, str] = {}

    def check(shard: int) -> Part | str:
        try:
            return read_part(plan, shard)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(_CHECKERS, thread_name_prefix="checking") as pool:
        for shard, found in zip(unknown, pool.map(check, unknown), strict=True):
            if isinstance(found, Part):
                parts[shard] = found
            else:
                wrong[shard] = found
    return wrong


def _succeed(plan: Plan, summary: Summary) -> None:
    if summary.rows != plan.rows:
        raise RuntimeError(f"{summary.rows} rows for {plan.rows} images")  # parts were checked one by one
    plan.place.remove_unfinished()
    with suppress(DataError):
        if json.loads(plan.place.read(SUCCESS))["plan"] == plan.key:
            return
    facts = {
        "rows": summary.rows, "errors": summary.errors, "parts": plan.shards, "plan": plan.key, "model": plan.model,
        "begun": plan.made, "done": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    plan.place.put(SUCCESS, json.dumps(facts, indent=2).encode())
