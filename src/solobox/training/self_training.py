"""Learn from images without labels, too: a model of the labelled ones labels them, and a second one learns from all.

One round of self-training (pseudo-labels; Lee, 2013, "Pseudo-label: the simple and efficient semi-supervised learning
method for deep neural networks"): the surest half of the predicted boxes counts. What it gains is in bench/LOG.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.identity import matches, signatures
from solobox.data.sample import PREDICTED
from solobox.errors import ConfigError, DataError
from solobox.images.reading import ImageInput
from solobox.model.localizer import Localizer
from solobox.predict.prediction import Prediction
from solobox.predict.stores import is_url
from solobox.training.distributed import started_processes
from solobox.training.train import train
from solobox.utils.progress import NullProgress, Progress
from solobox.utils.text import count_of

_MIN_PRESENCE = 0.5


def self_train(
    dataset: Dataset,
    unlabelled: Sequence[ImageInput],
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    progress: Progress | None = None,
    skip_bad: bool = False,
    **options: Any,
) -> Localizer:
    """Train on labelled images and on others, and save the localizer in the folder `out`.

    A first model, of the labelled images alone, is saved beside it, in ``OUT-teacher``. Only labelled images validate
    and test.

    unlabelled: images, each with the object; those that are labelled too, and copies of images that validate or test,
        are left out.

    Otherwise as `train`, and raises as it does; ConfigError ``options-conflict`` for several devices, for URLs, and for
    a head without standard deviations.
    """
    out = Path(out)
    recipe = Recipe.from_preset("quick", (recipe or Recipe()).to_dict() | options)
    check_recipe(recipe)
    check_local(unlabelled)
    dataset = dataset.with_auto_groups(progress).with_splits(val=recipe.val, test=recipe.test)
    teacher = train(dataset, teacher_folder(out), recipe, progress=progress, skip_bad=skip_bad)
    both = with_pseudo_labels(dataset, unlabelled, teacher, progress=progress)
    return train(both, out, recipe, progress=progress, skip_bad=skip_bad)


def teacher_folder(out: Path) -> Path:
    """Where the first model is saved."""
    return out.with_name(f"{out.name}-teacher")


def check_recipe(recipe: Recipe) -> None:
    """Raise ConfigError, ``options-conflict``, for a recipe that self-training cannot follow."""
    if recipe.devices > 1 or recipe.nodes > 1 or started_processes() != (1, 1):
        raise ConfigError("unlabelled images are learned from on one device", code="options-conflict")
    if recipe.architecture.head == "regression":
        raise ConfigError(
            "unlabelled images need a head that knows how sure it is: use head distribution",
            code="options-conflict",
        )


def check_local(images: Iterable[ImageInput]) -> None:
    """Raise ConfigError, ``options-conflict``, for a URL: images are trained on from files."""
    if url := next((each for each in images if isinstance(each, str) and is_url(each)), None):
        raise ConfigError(
            f"unlabelled images are learned from as local files, and {url} is a URL: download them first",
            code="options-conflict",
        )


def is_of_recipe(teacher: Localizer, recipe: Recipe) -> bool:
    """Whether a finished model was trained by this recipe."""
    options = recipe.to_dict()
    saved: Any = teacher.metadata["recipe"]
    same = all(options.get(name) == value for name, value in saved.items())
    a, b = teacher.architecture, recipe.architecture
    return same and replace(a, presence=b.presence, refinements=b.refinements, detail=b.detail) == b


def with_pseudo_labels(
    dataset: Dataset,
    unlabelled: Sequence[ImageInput],
    teacher: Localizer,
    *,
    progress: Progress | None = None,
) -> Dataset:
    """The labelled images, and the surest half of the others with the teacher's boxes, to train on.

    dataset: with a split for each row. The added rows have the source `PREDICTED`.

    Raises DataError, ``no-images``, where none of the others can be used.
    """
    progress = progress or NullProgress()
    images = _usable(dataset, unlabelled, progress)
    progress.start("predicting unlabelled images", len(images))
    found: list[tuple[ImageInput, Prediction]] = []
    errors: list[str] = []
    for image, prediction in zip(images, teacher.stream(images), strict=True):
        progress.advance()
        if prediction.error:
            errors.append(prediction.error)
        if _has_area(prediction) and not prediction.presence < _MIN_PRESENCE:
            found.append((image, prediction))
    if errors:
        progress.say(f"{count_of(len(errors), 'unlabelled image')} cannot be read, such as: {errors[0]}")
    if not found:
        raise DataError("none of the unlabelled images can be used: see `solobox predict`", code="no-images")
    median = np.median([prediction.relative_std for _, prediction in found])
    surest = [(image, prediction) for image, prediction in found if prediction.relative_std <= median]
    progress.say(
        f"{len(surest):,} of {len(images):,} unlabelled images are learned from, with predicted boxes"
    )
    return _joined(dataset, surest)


def _usable(dataset: Dataset, unlabelled: Sequence[ImageInput], progress: Progress) -> list[ImageInput]:
    """Without what is labelled too, and without copies of images that validate or test."""
    known = {image.resolve() for image in dataset.images if isinstance(image, Path)}
    images = [Path(image) if isinstance(image, str) else image for image in unlabelled]
    images = [image for image in images if not (isinstance(image, Path) and image.resolve() in known)]
    held_out = [image for image, split in zip(dataset.images, dataset.split, strict=True) if split != "train"]
    copies = matches(signatures(images, progress=progress), signatures(held_out))
    return [image for image, is_copy in zip(images, copies, strict=True) if not is_copy]


def _has_area(prediction: Prediction) -> bool:
    """Whether there is a box of a pixel or more, which can be a label."""
    return prediction.has_box and bool((prediction.box[2:] - prediction.box[:2] >= 1).all())


def _joined(dataset: Dataset, found: Sequence[tuple[ImageInput, Prediction]]) -> Dataset:
    count = len(found)
    boxes = np.array([prediction.box for _, prediction in found])
    return Dataset(
        (*dataset.images, *(image for image, _ in found)),
        np.concatenate([dataset.boxes, boxes]),
        split=(*dataset.split, *("train",) * count),
        group=(*dataset.group, *("",) * count),
        label=(*dataset.label, *("",) * count),
        source=(*dataset.source, *(PREDICTED,) * count),
        extra={name: (*values, *("",) * count) for name, values in dataset.extra.items()},
        names=(*dataset.names, *(prediction.image for _, prediction in found)),
        where=(*dataset.where, *("unlabelled",) * count),
        notes=dataset.notes,
    )
