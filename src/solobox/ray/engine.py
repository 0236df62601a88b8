"""The shards of a plan on Ray: Ray Data over the shards, a pool of actors with a model each.

A lost machine's shards are done again elsewhere. What is written decides, not what Ray says: see `run`.
"""

import contextlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from solobox.errors import ConfigError, DataError
from solobox.ray.plan import Plan
from solobox.ray.running import Engine, Outcome, Task, attempted
from solobox.ray.shard import Load, Part, Worker
from solobox.utils.concurrency import processors

_ATTEMPTS = 4
"""Times that a shard is begun in one pass when each time its actor, or machine, is lost over it."""
_MOST_BLOCKS = 5000
"""Shards are handed out one by one up to this number, and several together of more."""
_STORE_BYTES = 200_000_000
"""Shared memory of a Ray of our own: only numbers of shards and counts of rows pass through it."""


class _Attempts:
    """How often each shard was begun, in an actor of its own.

    Ray begins lost ones again without end, and there may be an image that ends every process that looks at it.
    """

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, shard: int) -> int:
        """Take note of one more; gives how often it was begun before."""
        self._begun[shard] += 1
        return self._begun[shard] - 1


class _Actor:
    """What Ray Data calls: a batch of tasks in, their outcomes out. attempts: the handle of `_Attempts`."""

    def __init__(self, output: str, load: Load, attempts: Any, most: int) -> None:
        self._worker = Worker(output, load, self._begin)
        self._attempts, self._most = attempts, most

    def _begin(self, shard: int) -> None:
        import ray

        if (before := ray.get(self._attempts.begin.remote(shard))) >= self._most:
            raise DataError(
                f"its worker ended before it was done, at each of {before} attempts: by one of its images, for want "
                "of memory, or with its machine"
            )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        tasks = [
            Task(int(shard), bool(again)) for shard, again in zip(batch["shard"], batch["again"], strict=True)
        ]
        outcomes = [attempted(self._worker, task) for task in tasks]
        return {
            "shard": np.array([outcome.shard for outcome in outcomes]),
            "rows": np.array([outcome.part.rows if outcome.part else -1 for outcome in outcomes]),
            "errors": np.array([outcome.part.errors if outcome.part else -1 for outcome in outcomes]),
            "failure": np.array([outcome.failure for outcome in outcomes], dtype=object),
        }


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """A connection to Ray while the block runs: one that is there, else the cluster of RAY_ADDRESS, else a Ray here.

    No usage statistics are sent by a Ray that is started here. Raises ConfigError where a cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it writes past Python to the screen
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # else it warns of a change in its future
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        quiet |= {
            "num_cpus": processors(), "include_dashboard": False, "object_store_memory": _STORE_BYTES,
        }  # fmt: skip
    try:
        with _nothing_on_stderr():
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = (
            "no Ray could be started here"
            if address == "local"
            else f"no Ray cluster at RAY_ADDRESS={address}"
        )
        raise ConfigError(f"{where}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _nothing_on_stderr() -> Iterator[None]:
    """Without what Ray's C++ says while it starts, past Python and whatever level of logging it is told."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 (a device)
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def on_ray(load: Load) -> Engine:
    """An engine on the Ray that this process is `connected` to, with an actor for each processor of the cluster.

    `load`, and Solobox itself, have to be importable on all machines. Raises ConfigError where Ray gives up: what is
    written by then stays.
    """

    def engine(plan: Plan, tasks: Sequence[Task]) -> Iterator[Outcome]:
        import ray
        from ray.exceptions import RayError

        with _quiet():
            resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            actors = max(1, min(len(tasks), int(resources.get("CPU", 1))))
            try:
                attempts = _counting()
                outcomes = _dataset(tasks, (plan.place.url, load, attempts, _ATTEMPTS), actors)
                for batch in outcomes.iter_batches(batch_size=None, prefetch_batches=0):
                    yield from _outcomes(batch)
            except RayError as error:
                raise ConfigError(f"Ray gave up: {_told(error)}") from error

    return engine


def _counting() -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()  # what is lost with this machine is everything
    counting: Any = ray.remote(_Attempts)
    return counting.options(
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=True),
    ).remote()


def _dataset(tasks: Sequence[Task], arguments: tuple[Any, ...], actors: int) -> Any:
    from ray import data

    rows = [{"shard": task.shard, "again": task.again} for task in tasks]
    shards = data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
    return shards.map_batches(
        _Actor,
        fn_constructor_args=arguments,
        batch_size=None,
        num_cpus=1,
        # An actor that was lost waits for a free processor to come back on, with its shard: the others have to
        # make room when there is nothing else left, so the pool may shrink to one. And no shard waits behind another
        # one at an actor: with the last shards, that would leave other actors idle.
        compute=data.ActorPoolStrategy(
            min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=1
        ),
    )


def _outcomes(batch: dict[str, np.ndarray]) -> Iterator[Outcome]:
    columns = (batch[name] for name in ("shard", "rows", "errors", "failure"))
    for shard, rows, errors, failure in zip(*columns, strict=True):
        part = None if failure else Part(int(rows), int(errors))
        yield Outcome(int(shard), part, str(failure))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without its bars and remarks; what it cannot do is left out and not an error, see `run`."""
    from ray.data import DataContext

    logger, context = logging.getLogger("ray.data"), DataContext.get_current()
    wanted = {"enable_progress_bars": False, "print_on_execution_start": False, "max_errored_blocks": -1}
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
    level = logger.level
    for name in before:
        setattr(context, name, wanted[name])
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)


def _told(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = (lines[-1] if lines else type(error).__name__).rstrip(".")
    if "ModuleNotFoundError" in last:
        return f"{last}. Solobox with its [ray] extra has to be installed on all machines of the cluster"
    return f"{last}. Run the same command again to go on"
