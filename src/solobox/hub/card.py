"""The model card of a pushed localizer: the repository's README.md, written from the run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from solobox.evaluation.metrics import Evaluation
from solobox.evaluation.report import RunMetadata
from solobox.export.onnx_file import weights_license
from solobox.hub.client import LIBRARY, PREFIX
from solobox.model.localizer import Localizer
from solobox.uncertainty.conformal import DEFAULT_LEVEL

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

PIPELINE_TAG = "object-detection"
_KNOWN_LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0")
"""Identifiers of the hub that timm states too."""

_SHARES = {
    "mean_iou": "mean IoU",
    "iou50": "share at IoU 0.5",
    "iou75": "share at IoU 0.75",
    "iou90": "share at IoU 0.9",
}
_SPLITS = {
    "test": "the test split",
    "val": "the validation split, which chose the epoch and calibrated the margins: too good by that",
    "train": "the images that it was trained on: far too good",
    "all": "all images of the data, also those that it was trained on: too good",
}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says beside the localizer's own metadata.

    repository: ``owner/name``. evaluation: what was measured, or None. license: an identifier of the hub, None for that
    of the pretrained weights. has_onnx: whether the exported file is pushed too.
    recognizes_images: whether the localizer has the fingerprints of the images that it was trained on.
    """

    repository: str
    evaluation: Evaluation | None
    license: str | None
    has_onnx: bool
    recognizes_images: bool


def model_card(localizer: Localizer, facts: CardFacts) -> str:
    """The text of README.md: metadata for the hub, then what the model is, promises, and does not."""
    sections = (_head(localizer, facts), _use(facts), _metrics(localizer, facts), _margins(localizer),
                _data(localizer), _limits(localizer), _license(localizer, facts))  # fmt: skip
    body = "\n\n".join("\n".join(section) for section in sections)
    return f"---\n{_metadata(localizer, facts).to_yaml()}\n---\n\n{body}\n"


def _metadata(localizer: Localizer, facts: CardFacts) -> "ModelCardData":
    from huggingface_hub import EvalResult, ModelCardData

    results = None
    if (evaluation := facts.evaluation) is not None:
        values = evaluation.metrics.to_dict()
        results = [
            EvalResult(
                task_type=PIPELINE_TAG, dataset_type="custom", dataset_name=_data_name(evaluation),
                dataset_split=evaluation.split, metric_type=name, metric_name=text, metric_value=values[name],
            )
            for name, text in _SHARES.items()
        ]  # fmt: skip
    identifier = facts.license or _license_of_weights(localizer)
    return ModelCardData(
        model_name=facts.repository.partition("/")[2],
        library_name=LIBRARY,
        pipeline_tag=PIPELINE_TAG,
        tags=[
            "solobox",
            "object-localization",
            "bounding-box",
            "uncertainty",
            *(["onnx"] if facts.has_onnx else []),
        ],
        license=identifier or "other",
        license_name=None if identifier else "unknown",
        eval_results=results,
    )


def _license_of_weights(localizer: Localizer) -> str | None:
    """The hub's identifier for the licence of the pretrained weights, None where they have none of the known."""
    words = weights_license(localizer).lower().split()
    return words[0] if words[0] in _KNOWN_LICENSES else None


def _head(localizer: Localizer, facts: CardFacts) -> Iterator[str]:
    classes = localizer.metadata.get("classes")
    what = "the one object of interest"
    if isinstance(classes, list) and 0 < len(classes) <= 20:
        what = f"the one object of interest ({', '.join(map(_plain, classes))})"
    yield f"# {facts.repository.partition('/')[2]}"
    yield ""
    yield (
        f"Finds {what} in an image: one box, with margins for its four edges where the model was calibrated. Trained "
        f"with Solobox {version('solobox')}; backbone {_plain(localizer.architecture.backbone)}, images at "
        f"{localizer.architecture.size} px."
    )


def _use(facts: CardFacts) -> Iterator[str]:
    name = f"{PREFIX}{facts.repository}"
    yield from (
        "## How to use it", "",
        "With Solobox and its extra `hub`" + (
            " (and `train` for the PyTorch model; without it the ONNX file is used):" if facts.has_onnx
            else " and `train`:"
        ), "",
        "```python", "import solobox", "", f'model = solobox.load("{name}")',
        'prediction = model.predict("photo.jpg")', "prediction.box  # x1, y1, x2, y2 in pixels of the upright image",
        "prediction.lower, prediction.upper  # the margins of each edge", "```", "",
        "```sh", f"solobox predict {name} photos/ -o boxes.csv", "```", "",
        f"Add `@REVISION` (`{name}@main`) for a branch, a tag or a commit. Nothing here is a pickle.",
    )  # fmt: skip


def _metrics(localizer: Localizer, facts: CardFacts) -> Iterator[str]:
    yield from ("## Metrics", "")
    evaluation = facts.evaluation
    if evaluation is None:
        best: Any = localizer.metadata.get("best")
        iou = best.get("val_iou") if isinstance(best, dict) else None
        known = (
            ""
            if iou is None
            else f" Its mean IoU on the validation images, which chose the epoch, was {iou:.3f}."
        )
        yield f"Not measured on images that training did not use.{known} Measure it on yours before you rely on it."
        return
    values, units = evaluation.metrics.to_dict(), f"{evaluation.metrics.n:,} images"
    if evaluation.n_groups:
        units += f" in {evaluation.n_groups:,} groups"
    where = _SPLITS.get(evaluation.split, evaluation.split)
    yield f"On {units} ({_plain(_data_name(evaluation))}), {where}."
    if evaluation.n_seen_in_training:
        yield (
            f"**{evaluation.n_seen_in_training:,} of them were used in training, or are copies of such images: the "
            "metrics are too good.**"
        )
    elif evaluation.split == "test" and facts.recognizes_images:
        yield "None of them is among the images that it was trained on, or a copy of one."
    elif evaluation.split == "test":
        yield "Whether some of them were used in training is not known."
    yield from ("", "| metric | value | 95% confidence interval |", "| --- | --- | --- |")
    for name, text in _SHARES.items():
        interval = evaluation.intervals.get(name)
        ends = interval.to_json() if interval is not None else None
        bounds = f"{ends[0]:.3f} to {ends[1]:.3f}" if isinstance(ends, list) else "too few images"
        yield f"| {text} | {values[name]:.3f} | {bounds} |"
    if (margins := evaluation.coverage) is not None:
        ends = margins.interval.to_json()
        bounds = f"{ends[0]:.3f} to {ends[1]:.3f}" if isinstance(ends, list) else "too few images"
        yield f"| all four edges within the margins at {margins.level:g} | {margins.share:.3f} | {bounds} |"
    if (presence := evaluation.presence) is not None:
        yield f"| presence: AUROC | {presence.auroc:.3f} | |"
    yield from ("", "Intervals are by bootstrap; whole groups are resampled.")


def _data_name(evaluation: Evaluation) -> str:
    """The name of the file or folder with the labels, without its path."""
    path = evaluation.dataset.notes.path
    return path.resolve().name if path is not None else "data in memory"


def _margins(localizer: Localizer) -> Iterator[str]:
    yield from ("## What the margins promise", "")
    calibration = localizer.calibration
    if calibration is None or not calibration.two_sided:
        yield "This model was calibrated on too few images: it has no margins."
        return
    n = f"{calibration.n_images:,} images"
    if calibration.n_groups != calibration.n_images:
        n += f" in {calibration.n_groups:,} groups"
    levels = calibration.two_sided
    usual = DEFAULT_LEVEL if DEFAULT_LEVEL in levels else max(levels)
    kinds = len(calibration.categories)
    sizes = f", calibrated for {kinds} sizes of the predicted box each" if kinds else ""
    yield (
        f"Margins at {usual:g} hold all four edges of the true box with a probability of at least {usual:g}, on "
        "average over images like those of the calibration (split conformal prediction). They were calibrated on "
        f"{n} that were held out of training{sizes}; levels from {min(levels):g} to {max(levels):g} are possible. The "
        "promise is for all images together, not for each kind of image, and it does not hold for images of another "
        "kind: other cameras, places or objects. Measure the coverage on yours."
    )


def _data(localizer: Localizer) -> Iterator[str]:
    yield from ("## Training data", "")
    rows = RunMetadata.from_localizer(localizer, "", "").count_rows
    if len(rows) == 1:
        yield "It was trained by a program that recorded no counts."
        return
    yield from ("| images | |", "| --- | --- |")
    yield from (f"| {text} | {count:,} |" for text, count in rows)
    classes = localizer.metadata.get("classes")
    if isinstance(classes, list) and classes:
        shown = ", ".join(_plain(name) for name in classes[:20]) + (", ..." if len(classes) > 20 else "")
        yield from (
            "",
            f"Classes: {shown}. The box is of one object, whatever its class; no class is predicted.",
        )


def _limits(localizer: Localizer) -> Iterator[str]:
    yield from ("## Limits", "")
    yield "- Exactly one box for each image: of several objects it shows one, or a box between them."
    yield (
        "- Presence says how probable the object is; ask for no box below a threshold with `min_presence`."
        if localizer.has_presence
        else "- It never learned images without the object, and draws a box in those too."
    )
    if localizer.has_familiarity:
        yield "- A familiarity near 0 says that an image is unlike the training images: do not trust its box."
    yield "- Objects much smaller, and images of another kind, than those that it was trained on are found badly."


def _license(localizer: Localizer, facts: CardFacts) -> Iterator[str]:
    yield from ("## Licence", "")
    if facts.license:
        yield f"This model: {_plain(facts.license)}."
    yield (
        f"The backbone's pretrained weights: {_plain(weights_license(localizer))}. Solobox knows nothing of the "
        "licence of the training images."
    )


def _plain(text: object) -> str:
    """Text of a user's data as plain text in Markdown, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~])", r"\\\1", " ".join(str(text).split())[:200])


def public_metadata(metadata: Mapping[str, object]) -> dict[str, object]:
    """What of a run's metadata is pushed: without names and paths of the images and of the machine."""
    public = {
        key: value for key, value in metadata.items() if key not in ("sample_images", "unreadable", "data")
    }
    recipe = public.get("recipe")
    if isinstance(recipe, dict) and isinstance(origin := recipe.get("pretrained"), str):
        public["recipe"] = recipe | {"pretrained": re.split(r"[/\\]", origin)[-1]}
    return public
