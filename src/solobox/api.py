"""The functions of the public API that combine several parts; `solobox` offers them by their names.

Heavy parts are imported when they are called, so that checking and drawing need no torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from solobox.data.checks import CheckLevel, Diagnosis
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError
from solobox.hub.download import local_model
from solobox.images.drawing import draw_on, predicted, truth
from solobox.images.reading import ImageInput
from solobox.predict.prediction import Prediction
from solobox.utils.progress import Progress

if TYPE_CHECKING:
    from solobox.annotation.server import AnnotationServer
    from solobox.config.recipe import Recipe
    from solobox.evaluation.audit.label_audit import Audit
    from solobox.model.localizer import Localizer
    from solobox.predict.onnx_model import OnnxModel
    from solobox.training.curve import Curve


def load(path: str | Path) -> "Localizer | OnnxModel":
    """Load a trained model: a run's folder gives a `Localizer`, an ``.onnx`` file an `OnnxModel` (without torch).

    path: or ``hf:owner/name``, a model on the Hugging Face Hub, ``hf:owner/name@revision`` for a branch, tag or commit:
        a `Localizer` where PyTorch is installed, else an `OnnxModel`; see `solobox.hub.download.local_model`.

    Raises ConfigError: ``not-found``, ``unknown-model``, and what `local_model` and the loaders raise.
    """
    path = local_model(path)
    if path.is_dir():
        from solobox.model.localizer import Localizer

        return Localizer.load(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such folder or file", code="not-found")
    if path.suffix.lower() != ".onnx":
        raise ConfigError(
            f"{path}: a model is the folder of a training run, or an exported .onnx file",
            code="unknown-model",
        )
    from solobox.predict.onnx_model import OnnxModel

    return OnnxModel.load(path)


def check(
    data: Dataset | str | Path,
    level: CheckLevel = "pixels",
    *,
    images: str | Path | None = None,
    layout: str | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find what is wrong with labelled images; nothing is changed.

    data: a `Dataset`, or what `Dataset.read` reads, of which every row is checked, also those that it would refuse.
    level: ``numbers``, ``headers`` or ``pixels``, see `solobox.data.checks.check`.
    images, layout: the folder that image names are relative to, and what the numbers of each box mean, as in
        `Dataset.read`; of a file or a folder only.

    Raises DataError for a file that cannot be read at all, ConfigError (``unknown-layout``), ValueError for `images` or
    `layout` beside a `Dataset`.
    """
    if isinstance(data, Dataset):
        if images is not None or layout is not None:
            raise ValueError(
                "a Dataset has its images and corners in pixels: give images and layout to Dataset.read"
            )
        return data.check(level, progress=progress)
    from solobox.data import checks, formats
    from solobox.data.layouts import parse_layout

    annotations = formats.read(
        Path(data), None if images is None else Path(images), parse_layout(layout) if layout else None
    )
    return checks.check(annotations, level, progress=progress)


def audit(
    data: Dataset | str | Path,
    recipe: "Recipe | None" = None,
    *,
    folds: int = 5,
    skip_bad: bool = False,
    auto_group: bool = True,
    progress: Progress | None = None,
) -> "Audit":
    """Find labels that are probably wrong: a model that was trained without them disagrees.

    data: `AuditFinding.row` counts its rows. recipe: how to train, by default ``quick``. folds: so many models are
        trained. skip_bad: leave out images that cannot be read, instead of raising DataError. auto_group: keep copies
        of an image in one fold, see `Dataset.with_auto_groups`.

    Raises DataError for data that cannot be used, ConfigError for settings that do not work here.
    """
    from solobox.config.recipe import Recipe
    from solobox.evaluation.audit.hidden_object import second_prediction
    from solobox.evaluation.audit.label_audit import audit_labels
    from solobox.training.crossval import out_of_fold

    dataset = _dataset(data, skip_bad=skip_bad)
    predicted = out_of_fold(
        dataset, recipe or Recipe(), folds=folds, skip_bad=skip_bad, auto_group=auto_group, progress=progress
    )
    return audit_labels(dataset, predicted.predictions, second_prediction(dataset, predicted))


def annotate(
    folder: str | Path,
    out: str | Path = "labels.csv",
    *,
    good_iou: float = 0.75,
    goal: float = 0.8,
    classes: Sequence[str] = (),
) -> "AnnotationServer":
    """Draw boxes on the images of a folder, on a page in the browser; a model learns from them and draws the others.

    See `AnnotationServer` for all of it. The page is served until it is closed; in a notebook the result shows a link:

        page = solobox.annotate("photos")
        page.dataset  # the labels so far
        page.close()

    Raises DataError: ``no-images``, ``log-damaged``, ``labels-exist``; ConfigError ``log-in-use``.
    """
    from solobox.annotation.server import AnnotationServer

    server = AnnotationServer(folder, out, good_iou=good_iou, goal=goal, classes=classes)
    server.start()
    return server


def learning_curve(
    data: Dataset | str | Path,
    recipe: "Recipe | None" = None,
    *,
    repetitions: int = 5,
    skip_bad: bool = False,
    auto_group: bool = True,
    progress: Progress | None = None,
) -> "Curve":
    """Measure whether more labels would help, see `solobox.training.curve.learning_curve`.

    recipe: how to train, by default ``quick``. skip_bad, auto_group: as in `audit`.
    """
    from solobox.config.recipe import Recipe
    from solobox.training.curve import learning_curve as measure

    dataset = _dataset(data, skip_bad=skip_bad)
    return measure(
        dataset, recipe or Recipe(), repetitions=repetitions, skip_bad=skip_bad, auto_group=auto_group,
        progress=progress,
    )  # fmt: skip


def draw(
    image: ImageInput,
    box: Prediction | npt.ArrayLike | None = None,
    *,
    true_box: npt.ArrayLike | None = None,
    max_side: int | None = None,
) -> Image.Image:
    """Draw boxes on an image.

    box: a prediction (with the band of its margins), or a box or boxes ``x1, y1, x2, y2`` in pixels of the upright
        image, shape (4,) or (n, 4); solid and orange.
    true_box: as `box`; dashed and blue.
    max_side: reduce the image until its longer side has at most so many pixels.

    Raises ValueError for another shape, ImageError for an image that cannot be read or has another size than the
    predicted one, TypeError for what is no image.
    """
    size = None
    if isinstance(box, Prediction):
        size = box.size if box.has_box else None
        outlines = [predicted(box.box, lower=box.lower, upper=box.upper)]
    else:
        outlines = [predicted(each) for each in _boxes(box)]
    outlines += [truth(each) for each in _boxes(true_box)]
    return draw_on(image, outlines, max_side=max_side, size=size)


def _boxes(boxes: npt.ArrayLike | None) -> npt.NDArray[np.float64]:
    table = np.atleast_2d(np.empty((0, 4)) if boxes is None else np.asarray(boxes, dtype=np.float64))
    if table.ndim != 2 or table.shape[1] != 4:
        raise ValueError(f"boxes have the shape (4,) or (n, 4), not {table.shape}")
    return table


def _dataset(data: Dataset | str | Path, *, skip_bad: bool) -> Dataset:
    return data if isinstance(data, Dataset) else Dataset.read(data, skip_bad=skip_bad)
