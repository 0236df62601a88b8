"""The files of a run's folder, and the record of the data that it was trained on; imports no torch."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout

from solobox.config.choices import Keep
from solobox.errors import ConfigError
from solobox.utils.atomic import explained, replacing
from solobox.utils.json_utils import MAX_BYTES, parse_json
from solobox.utils.progress import Progress

if TYPE_CHECKING:
    from solobox.data.dataset import Dataset

CONFIG = "config.json"
"""The model's; it is written last, so a run whose folder has it is finished."""

CHECKPOINT = "checkpoint.pt"
"""The state after the last epoch."""

HISTORY = "history.csv"
"""A row for each epoch."""

OUT_OF_FOLD = "out_of_fold.csv"
"""A row for each training image, predicted by a head that did not learn from it; where the recipe has folds."""

PSEUDO_LABELS = "pseudo_labels.csv"
"""In a teacher's folder: the labelled images, and others with its boxes; see `training.self_training`."""

DATA_SOURCE = "data_source.json"
"""A `DataSource`."""

LOCK = ".lock"
"""Locked while a process trains in the folder; the system unlocks it when that process ends, however it ends."""


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where a run's labelled images come from: what `Dataset.read` takes; the run's folder keeps it for `--resume`.

    data: the annotations. images: the folder of the images, None for the annotations' folder.
    keep: which box of an image with several. skip_bad: whether to leave out unusable rows.
    auto_group: whether copies of an image and frames of a scene get a group, see `Dataset.with_auto_groups`.
    layout: of the boxes, None for what the format says.
    """

    data: Path
    images: Path | None = None
    keep: Keep | None = None
    skip_bad: bool = False
    auto_group: bool = True
    layout: str | None = None

    def read(self, progress: Progress | None = None) -> "Dataset":
        """The images; see `Dataset.read` for errors."""
        from solobox.data.dataset import Dataset

        dataset = Dataset.read(
            self.data, images=self.images, keep=self.keep, skip_bad=self.skip_bad, layout=self.layout,
            progress=progress,
        )  # fmt: skip
        return dataset.with_auto_groups(progress) if self.auto_group else dataset.without_auto_groups()

    def to_args(self) -> list[str]:
        """The arguments of a `solobox` command that reads the same images."""
        args = [str(self.data)]
        args += ["--images", str(self.images)] if self.images else []
        args += ["--keep", self.keep] if self.keep else []
        args += ["--layout", self.layout] if self.layout else []
        return args + (["--skip-bad"] if self.skip_bad else [])

    def is_same(self, other: "DataSource") -> bool:
        """Whether both read the same images, however their paths are written."""

        def resolved(source: "DataSource") -> "DataSource":
            images = source.images.resolve() if source.images else None
            return replace(source, data=source.data.resolve(), images=images)

        return resolved(self) == resolved(other)

    def save(self, folder: Path) -> None:
        """Write it into a run's folder, with absolute paths. Raises DataError where that fails."""
        paths = {
            "data": str(self.data.resolve()),
            "images": str(self.images.resolve()) if self.images else None,
        }
        with replacing(folder / DATA_SOURCE) as file:
            json.dump(asdict(self) | paths, file, indent=2)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises ConfigError (``data-source-missing``) where it is missing or damaged."""
        path = folder / DATA_SOURCE
        try:
            values = parse_json(path.read_text(encoding="utf-8"), max_bytes=MAX_BYTES)
            images = Path(values["images"]) if values["images"] else None
            # runs of older versions did not look for copies
            auto_group = values.get("auto_group", False)
            return cls(
                Path(values["data"]),
                images,
                values["keep"],
                values["skip_bad"],
                auto_group,
                values.get("layout"),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is missing or damaged, so the run's data is not known: `solobox train` writes it, "
                "solobox.train in Python does not",
                code="data-source-missing",
            ) from error


@contextmanager
def locked(folder: Path, *, resume: bool) -> Iterator[None]:
    """Keep others from training in a run's folder.

    Raises ConfigError: ``run-in-use`` where another does, and as `must_be_vacant`, or `must_be_unfinished`, for what
    another did meanwhile.
    """
    lock = FileLock(folder / LOCK)
    with explained(folder / LOCK):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"another process is training in {folder}: wait until it ends, or choose another folder",
                code="run-in-use",
            ) from None
    try:
        (must_be_unfinished if resume else must_be_vacant)(folder)
        yield
        # A finished run needs no lock: its model keeps others out. The file of a paused run stays, as whoever just
        # opened it would lock a file that is gone. Windows removes no open file.
        with suppress(OSError):
            (folder / LOCK).unlink()
    finally:
        lock.release()


def must_be_vacant(folder: Path) -> None:
    """Raise ConfigError (``run-exists``, ``run-unfinished``) where a new run would overwrite another."""
    if (folder / CONFIG).exists():
        raise ConfigError(
            f"{folder} already holds a model: choose another folder, or remove this one first",
            code="run-exists",
        )
    if (folder / CHECKPOINT).exists():
        raise ConfigError(
            f"{folder} holds an unfinished run: continue it with `solobox train --resume {folder}`, or remove it",
            code="run-unfinished",
        )


def must_be_unfinished(folder: Path) -> None:
    """Raise ConfigError (``run-finished``, ``run-missing``) where there is nothing to resume."""
    if (folder / CONFIG).exists():
        raise ConfigError(f"the run in {folder} is finished: there is nothing to resume", code="run-finished")
    if not (folder / CHECKPOINT).exists():
        raise ConfigError(
            f"{folder} holds no {CHECKPOINT}: no epoch was finished there; start a new run",
            code="run-missing",
        )
