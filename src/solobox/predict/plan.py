"""What a resumable job does: the settings that determine its rows, and fingerprints of the model and the images."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from solobox.errors import ConfigError, DataError
from solobox.predict.predictor import PredictOptions
from solobox.predict.stores import is_url
from solobox.predict.writers import Columns
from solobox.utils.json_utils import MAX_BYTES, parse_json

Setting: TypeAlias = str | int | float | None

_LAYOUT = 3
"""Version of the plan's JSON; any other is refused."""


def _solobox_version() -> str:
    return version("solobox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings that determine the rows: a job can only be resumed with the same ones.

    model: SHA-256 of the model's files. inputs: fingerprint of the images, or the inputs of the command. rows: number
    of images.
    shard_size: images in a shard. settings: other settings that determine the output, by their names for
    the user.
    """

    model: str
    inputs: str
    rows: int
    shard_size: int
    options: PredictOptions = field(default_factory=PredictOptions)
    columns: Columns = field(default_factory=Columns)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    version: str = field(default_factory=_solobox_version)

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ConfigError(f"a shard has 1 image or more, not {self.shard_size}", code="out-of-range")

    @property
    def shards(self) -> int:
        """Number of shards; all but the last have `shard_size` images."""
        return -(-self.rows // self.shard_size)

    def rows_of(self, shard: int) -> int:
        """Images in a shard, which are counted from 0."""
        return min(self.shard_size, self.rows - shard * self.shard_size)

    def to_json(self, **more: Any) -> str:
        """The plan, and more, as a JSON object."""
        return json.dumps({"layout": _LAYOUT, **asdict(self), **more}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> tuple["Plan", dict[str, Any]]:
        """What `to_json` wrote: the plan and the rest. name: of the file, for errors.

        Raises DataError ``plan-damaged``; ConfigError ``plan-differs`` for one of another version of the program.
        """
        try:
            values = dict(parse_json(text, max_bytes=MAX_BYTES))
            if values.pop("layout") != _LAYOUT:
                raise ConfigError(
                    f"{name} was written by another version of Solobox: resume with that one, or start again with "
                    "another output",
                    code="plan-differs",
                )
            plan = {each.name: values.pop(each.name) for each in fields(cls)}
            plan["options"], plan["columns"] = PredictOptions(**plan["options"]), Columns(**plan["columns"])
            return cls(**plan), values
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{name} is damaged ({error!r}): give another output", code="plan-damaged"
            ) from error

    def check_same(self, other: "Plan", output: str) -> None:
        """Raise ConfigError ``plan-differs``, which names each difference, unless `other` is the same plan.

        output: where this plan was started, for the message.
        """
        before, now = self.as_settings(), other.as_settings()
        changes = [
            _change(name, before.get(name), now.get(name))
            for name in {**before, **now}
            if before.get(name) != now.get(name)
        ]
        if changes:
            raise ConfigError(
                f"{output} was started with other settings: {'; '.join(changes)}. Resume with the same settings, "
                "or start again with another output",
                code="plan-differs",
            )

    def as_settings(self) -> dict[str, Setting]:
        """All settings, by their names for the user."""
        options = {f"--{name.replace('_', '-')}": value for name, value in asdict(self.options).items()}
        return {
            "the model": self.model,
            "the images": self.inputs,
            **options,
            "the columns": ", ".join(self.columns.names),
            "images in a shard": self.shard_size,
            "Solobox's version": self.version,
            **self.settings,
        }


def _change(name: str, before: Setting, now: Setting) -> str:
    texts = ["not set" if value is None else str(value).replace("\n", ", ") for value in (before, now)]
    if any(len(text) > 200 or len(text) == 64 for text in texts):  # a hash means nothing to a reader
        return f"{name} changed"
    return f"{name} was {texts[0]} and is {texts[1]}"


def fingerprint(texts: Iterable[str]) -> str:
    """SHA-256 of a list of texts."""
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogateescape")
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.hexdigest()


def input_fingerprint(images: Iterable[str]) -> str:
    """SHA-256 of images' names, paths and, for files, sizes and times of change: another file of that name is another.

    Contents are not read, which would take as long as predicting some of them; those of URLs are not compared.
    """
    return fingerprint(text for image in images for text in (image, *_state(image)))


def _state(image: str) -> tuple[str, ...]:
    if is_url(image):
        return ()
    path = Path(image).absolute()
    try:
        stat = path.stat()
    except OSError:
        return str(path), "missing"
    return str(path), f"{stat.st_size} bytes", f"{stat.st_mtime_ns} ns"


def model_fingerprint(path: Path) -> str:
    """SHA-256 of an exported model's file, or of the files in a run folder that make up its model.

    Raises ConfigError where one cannot be read.
    """
    digest = hashlib.sha256()
    for file in [path / "config.json", path / "model.safetensors"] if path.is_dir() else [path]:
        try:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        except OSError as error:
            raise ConfigError(
                f"{file}: cannot be read: {error.strerror or error}", code="file-unreadable"
            ) from error
    return digest.hexdigest()
