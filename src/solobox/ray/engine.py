"""The shards of a job on Ray: Ray Data over the shards, a pool of actors with a model each.

The shards of a lost machine are predicted elsewhere. Only parts that are written count, not what Ray reports: see
`job.run`.
"""

import contextlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from solobox.errors import ConfigError, DataError, SoloboxError, reason
from solobox.images.pixel_limit import allow_pixels
from solobox.predict.job import Engine, Job, Outcome, Part, Task, check_reachable, predict_names
from solobox.predict.predictor import Predictor
from solobox.ray.folder_job import FolderJob
from solobox.utils.concurrency import processors

Load: TypeAlias = Callable[[bytes], Predictor]
"""Loads a predictor from the bytes of a model file. It must be importable where workers run."""

_ATTEMPTS = 4
"""How often a shard is started in one pass if its actor or machine is lost each time."""
_MAX_BLOCKS = 5000
"""Up to this many shards are distributed one by one, more of them in blocks."""
_STORE_BYTES = 200_000_000
"""Shared memory of a Ray that is started here: only shard numbers and row counts pass through it."""


class Worker:
    """Predicts shards of the job in an output folder. The model is loaded once, for the first shard.

    begin: called with each shard before any of its images is opened; it may refuse the shard by a DataError.
    """

    def __init__(self, output: str, load: Load, begin: Callable[[int], None] | None = None) -> None:
        self._output, self._load, self._begin = output, load, begin
        self._job: FolderJob | None = None
        self._model: Predictor | None = None

    def do(self, task: Task) -> Part:
        """Store the part of a shard, unless there is one. Raises what makes the whole shard fail."""
        job = self._job = self._job or FolderJob.open(self._output)
        if job is None:
            raise DataError(
                f"{self._output}: there is no plan of a run. All machines must see the same output folder: use one "
                "in an object store or a shared file system",
                code="plan-missing",
            )
        if not task.again and job.has_part(task.shard):
            return job.read_part(task.shard)  # a machine was lost after it was written
        if self._begin is not None:
            self._begin(task.shard)
        allowed = job.plan.settings.get("--max-pixels")
        allow_pixels(allowed if isinstance(allowed, int) else None)
        model = self._model = self._model or self._load(job.read_model())
        unreachable: dict[str, str] = {}
        rows = list(predict_names(model, job.names(task.shard), job.plan.options, unreachable))
        check_reachable(rows, unreachable)
        return job.put(task.shard, rows)

    def attempt(self, task: Task) -> Outcome:
        """`do`, with an exception as the outcome of the shard, so that the other shards continue."""
        try:
            return Outcome(task.shard, self.do(task))
        except Exception as error:  # noqa: BLE001
            why = (
                str(error) if isinstance(error, SoloboxError) else f"{type(error).__name__}: {reason(error)}"
            )
            return Outcome(task.shard, None, why)


def _url_of(job: Job) -> str:
    if not isinstance(job, FolderJob):
        raise TypeError(f"workers do the job of a folder, not {type(job).__name__}")
    return job.folder.url


class _Attempts:
    """Counts how often each shard was started. Runs in a separate actor.

    Ray restarts lost tasks without end, and an image may crash every process that opens it.
    """

    def __init__(self) -> None:
        self._started: Counter[int] = Counter()

    def begin(self, shard: int) -> int:
        """Count one more start. Returns the number of earlier ones."""
        self._started[shard] += 1
        return self._started[shard] - 1


class _Actor:
    """The callable for Ray Data: a batch of tasks in, their outcomes out. attempts: the handle of `_Attempts`."""

    def __init__(self, output: str, load: Load, attempts: Any, most: int) -> None:
        self._worker = Worker(output, load, self._begin)
        self._attempts, self._most = attempts, most

    def _begin(self, shard: int) -> None:
        import ray

        if (before := ray.get(self._attempts.begin.remote(shard))) >= self._most:
            raise DataError(
                f"its worker ended early in each of {before} attempts: one of its images crashed it, memory ran out, "
                "or its machine was lost",
                code="worker-lost",
            )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        tasks = [
            Task(int(shard), bool(again)) for shard, again in zip(batch["shard"], batch["again"], strict=True)
        ]
        outcomes = [self._worker.attempt(task) for task in tasks]
        counts = [outcome.part or Part(-1, -1, -1) for outcome in outcomes]
        return {
            "shard": np.array([outcome.shard for outcome in outcomes]),
            "rows": np.array([part.rows for part in counts]),
            "errors": np.array([part.errors for part in counts]),
            "absent": np.array([part.absent for part in counts]),
            "failure": np.array([outcome.failure for outcome in outcomes], dtype=object),
        }


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """A connection to Ray while the block runs: an open one, else the cluster of RAY_ADDRESS, else a local Ray.

    A local Ray sends no usage statistics. Raises ConfigError ``ray-unreachable``.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it writes to the screen, past Python
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
        with _silent_stderr():
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = (
            "no Ray could be started here"
            if address == "local"
            else f"no Ray cluster at RAY_ADDRESS={address}"
        )
        raise ConfigError(f"{where}: {error}", code="ray-unreachable") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what Ray's C++ writes while it starts, past Python and at any level of logging."""
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 (a device)
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def on_ray(load: Load) -> Engine:
    """An engine on the Ray that this process is `connected` to, with an actor for each processor of the cluster.

    `load`, and Solobox itself, must be importable on all machines. Raises ConfigError ``ray-failed`` where Ray gives
    up; finished parts stay.
    """

    def engine(job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
        import ray
        from ray.exceptions import RayError

        with _quiet():
            resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            actors = max(1, min(len(tasks), int(resources.get("CPU", 1))))
            try:
                attempts = _counting()
                outcomes = _dataset(tasks, (_url_of(job), load, attempts, _ATTEMPTS), actors)
                for batch in outcomes.iter_batches(batch_size=None, prefetch_batches=0):
                    yield from _outcomes(batch)
            except RayError as error:
                raise ConfigError(f"Ray gave up: {_cause(error)}", code="ray-failed") from error

    return engine


def _counting() -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()  # without this machine everything is lost anyway
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
    shards = data.from_items(rows, override_num_blocks=min(len(rows), _MAX_BLOCKS))
    return shards.map_batches(
        _Actor,
        fn_constructor_args=arguments,
        batch_size=None,
        num_cpus=1,
        # A lost actor waits for a free processor to restart on, with its shard: the others have to make room when
        # nothing else is left, so the pool may shrink to one. And no shard waits behind another one at an actor: with
        # the last shards, that would leave other actors idle.
        compute=data.ActorPoolStrategy(
            min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=1
        ),
    )


def _outcomes(batch: dict[str, np.ndarray]) -> Iterator[Outcome]:
    columns = (batch[name] for name in ("shard", "rows", "errors", "absent", "failure"))
    for shard, rows, errors, absent, failure in zip(*columns, strict=True):
        part = None if failure else Part(int(rows), int(errors), int(absent))
        yield Outcome(int(shard), part, str(failure))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without progress bars and messages. A failed block is no error: `run` finds the missing parts."""
    from ray.data import DataContext

    logger, context = logging.getLogger("ray.data"), DataContext.get_current()
    settings = {"enable_progress_bars": False, "print_on_execution_start": False, "max_errored_blocks": -1}
    before = {name: getattr(context, name) for name in settings if hasattr(context, name)}
    level = logger.level
    for name in before:
        setattr(context, name, settings[name])
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = (lines[-1] if lines else type(error).__name__).rstrip(".")
    if "ModuleNotFoundError" in last:
        return f"{last}. Solobox with its [ray] extra has to be installed on all machines of the cluster"
    return f"{last}. Run the same command again to continue"
