"""What the report says about the training run behind a localizer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from solobox.model.localizer import Localizer


_COUNTS = {
    "train": "to train, with a box",
    "val": "to validate, with a box",
    "test": "to test, with a box",
    "negatives": "without a box",
    "several_boxes": "left out: several boxes",
    "bad_rows": "left out: rows with errors",
}


@dataclass(frozen=True, kw_only=True)
class RunMetadata:
    """Metadata of a training run.

    name: of the run, for example the name of its folder.
    recipe: every option of the run, by name.
    history: one row per epoch, with the keys `epoch`, `train_loss`, `val_iou` and `seconds` as far as recorded.
    backbone: name of the backbone.
    seed: the random seed.
    data: path of the labelled images.
    command: the command line that repeats the run.
    versions: of the libraries, by name.
    counts: images of the data by what became of them, each in one of `_COUNTS`; those that are `unreadable` again.
    seconds: time spent by stage, in order.
    best_epoch: the epoch whose weights were kept, or None.
    """

    name: str
    recipe: Mapping[str, object]
    history: Sequence[Mapping[str, float]]
    backbone: str
    seed: int
    data: str
    command: str
    versions: Mapping[str, str]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    best_epoch: int | None = None

    @property
    def count_rows(self) -> list[tuple[str, int]]:
        """The counts in words, with their sum; last, how many of these could not be read."""
        rows = [(text, self.counts[key]) for key, text in _COUNTS.items() if self.counts.get(key)]
        rows.append(("in all", sum(count for _, count in rows)))
        unreadable = self.counts.get("unreadable", 0)
        return [*rows, ("of these not readable", unreadable)] if unreadable else rows

    @classmethod
    def from_localizer(cls, localizer: "Localizer", name: str, command: str) -> "RunMetadata":
        """Read the metadata that training saved with a localizer."""
        metadata = localizer.metadata

        def mapping(key: str) -> dict[str, object]:
            value = metadata.get(key)
            return value if isinstance(value, dict) else {}

        recipe, best, history = mapping("recipe"), mapping("best"), metadata.get("history")
        rows = [row for row in history if isinstance(row, dict)] if isinstance(history, list) else []
        best_epoch = next(
            (
                number
                for number, row in enumerate(rows, 1)
                if (row["stage"], row["epoch"]) == (best.get("stage"), best.get("epoch"))
            ),
            None,
        )
        return cls(
            name=name,
            recipe=asdict(localizer.architecture) | recipe,
            # Epochs are numbered across the stages here, and per stage in the history.
            history=[
                {"epoch": number}
                | {key: value for key, value in row.items() if key not in ("stage", "epoch")}
                for number, row in enumerate(rows, 1)
            ],
            backbone=localizer.architecture.backbone,
            seed=int(str(recipe.get("seed", 0))),
            data=str(metadata.get("data", "")),
            command=command,
            versions={key: str(value) for key, value in mapping("versions").items()},
            counts={key: int(str(value)) for key, value in mapping("counts").items()},
            seconds={key: float(str(value)) for key, value in mapping("seconds").items()},
            best_epoch=best_epoch,
        )
