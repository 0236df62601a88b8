"""Predictions for every labelled image by a head that did not learn from it: what kept features make cheap.

The backbone looks at each image once. After that a head is trained in seconds, so it can be trained again without some
images, and asked about them: cross-validation (Stone, 1974).
"""

import copy
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from solobox import boxes as geometry
from solobox.boxes import Floats
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.splits import ranked
from solobox.errors import ConfigError, DataError
from solobox.images.reading import probe, to_square
from solobox.model.heads import Output
from solobox.model.localizer import Localizer, pooled, raw_output
from solobox.model.losses import Loss
from solobox.model.presence import temperature
from solobox.model.runtime import Features, fastest
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import postprocess
from solobox.training.distributed import launched, precision_of
from solobox.training.feature_cache import Kept, keep
from solobox.training.stages import Decide, fit_head
from solobox.uncertainty.familiarity import Familiarity
from solobox.utils.atomic import CsvLines, replacing
from solobox.utils.progress import Progress, Silent

Rows = npt.NDArray[np.intp]

_TOGETHER = 64

_MOST = 2048
"""Images that figures of familiarity are made from, about, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """What was said of N images by heads that had not learnt from them.

    dataset: the images. predictions: one for each, in order; one that could not be read has its `error`.
    fold: (N,), which part of the data each was held out with, -1 for one that could not be read.
    """

    dataset: Dataset
    predictions: tuple[Prediction, ...]
    fold: npt.NDArray[np.int64]
    bank: "Bank"
    heads: tuple[Decide, ...]

    def look(self, row: int, pixels: npt.NDArray[np.uint8]) -> Prediction:
        """What the head that did not learn from an image says of other pixels (h, w, 3) of it."""
        if self.fold[row] < 0:
            raise DataError(f"{self.dataset.where[row]}: {self.predictions[row].error}")
        side = self.bank.recipe.architecture.side
        square = to_square(pixels, side).transpose(2, 0, 1)[np.newaxis]
        device = self.bank.fabric.device
        maps = [feature.float().to(device) for feature in self.bank.backbone(np.ascontiguousarray(square))]
        with torch.inference_mode():
            output = _on_cpu([self.heads[self.fold[row]](maps)])
        size = pixels.shape[1], pixels.shape[0]
        return _predictions(output, [str(self.dataset.images[row])], [size])[0]

    def write(self, path: Path) -> None:
        """A CSV with ``image,group,fold,x1,y1,x2,y2,iou``, a row for each image that was read and has a box."""
        with replacing(path) as file:
            writer = CsvLines(file)
            writer.put(["image", "group", "fold", "x1", "y1", "x2", "y2", "iou"])
            for row in np.flatnonzero(self.dataset.has_box & (self.fold >= 0)):
                found = self.predictions[row].box
                overlap = float(geometry.iou(found, self.dataset.boxes[row]))
                cells = [f"{value:.2f}" for value in found]
                names = self.dataset.names[row], self.dataset.group[row]
                writer.put([*names, int(self.fold[row]), *cells, f"{overlap:.6f}"])


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """Kept features of labelled images, from which heads are trained on any of them.

    dataset: N images. kept: their views. start: untrained, what every training begins with.
    sizes: width and height of each in pixels. errors: what is wrong with each, or the empty string.
    """

    dataset: Dataset
    recipe: Recipe
    kept: Kept
    backbone: Features
    start: Decide
    fabric: Fabric
    sizes: tuple[tuple[int, int], ...]
    errors: tuple[str, ...]
    progress: Progress = field(default_factory=Silent)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        recipe: Recipe,
        *,
        folder: Path,
        least: int | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> "Bank":
        """Show the backbone all images.

        folder: where features go that do not fit into memory; nothing is left there.
        least: the fewest images that a head will be trained on: small sets are shown in more views.
        skip_bad: leave out images that cannot be read, rather than raise DataError.
        """
        progress = progress or Silent()
        if recipe.finetune_epochs or recipe.architecture.size == "native":
            raise ConfigError(
                "this trains heads on kept features, and a backbone that is trained too, or images of their own sizes, "
                "have none: use --recipe quick and a number of pixels for --size"
            )
        fabric = launched(
            recipe.accelerator, precision_of(recipe.precision, recipe.accelerator), devices=1, nodes=1
        )
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            architecture = replace(recipe.architecture, presence=not dataset.has_box.all())
            localizer = Localizer(
                architecture, pretrained=recipe.pretrained, pretrained_head=recipe.pretrained_head
            )
        localizer.to(fabric.device).eval()
        backbone = fastest(localizer.backbone, recipe.architecture.size, bf16=recipe.precision != "32-true")
        kept = keep(
            dataset, backbone, recipe, crops_per_image=recipe.crops_per_image(least or len(dataset)),
            budget=recipe.ram_gb * 1e9, folder=folder, skip_bad=skip_bad, progress=progress, stage="features",
        )  # fmt: skip
        return cls.around(
            dataset, recipe, kept.near(fabric.device), backbone, Decide(localizer), fabric, progress
        )

    @classmethod
    def around(
        cls,
        dataset: Dataset,
        recipe: Recipe,
        kept: Kept,
        backbone: Features,
        start: Decide,
        fabric: Fabric,
        progress: Progress,
    ) -> "Bank":
        """Of features that are there already."""
        there = set(kept.images.tolist())
        sizes = [probe(path).size if row in there else (0, 0) for row, path in enumerate(dataset.images)]
        remarks = iter(kept.unreadable)
        errors = ["" if row in there else next(remarks, "cannot be read") for row in range(len(dataset))]
        return cls(dataset, recipe, kept, backbone, start, fabric, tuple(sizes), tuple(errors), progress)

    @property
    def readable(self) -> npt.NDArray[np.bool_]:
        """Which images there are features of, (N,)."""
        return np.array([not error for error in self.errors])

    def fit(self, images: npt.ArrayLike, stage: str = "head", *, seed: int | None = None) -> Decide:
        """A head trained on some images, given as a mask (N,), as `train` would on these alone.

        seed: default that of the recipe. Raises DataError where none of them has a box, ValueError for what is no mask.
        """
        wanted = np.asarray(images)
        if wanted.dtype != np.bool_ or wanted.shape != (len(self.dataset),):
            raise ValueError(f"a mask has shape ({len(self.dataset)},), not {wanted.dtype} of {wanted.shape}")
        count = int((wanted & self.readable).sum())
        if not (wanted & self.readable & self.dataset.has_box).any():
            raise DataError("none of the images to train on has a box and can be read")
        views = min(self.recipe.crops_per_image(count), self.kept.crops_per_image)
        rows = self.kept.of_images(torch.from_numpy(wanted))
        rows = rows[self.kept.index[rows] % self.kept.crops_per_image < views]
        # All epochs are as good as another here, since nothing is held out to choose by, nor to lose patience with: the
        # last one is kept.
        recipe = replace(self.recipe, seed=self.recipe.seed if seed is None else seed, patience=0)
        head = copy.deepcopy(self.start)
        fit_head(
            head, self.kept, lambda _: torch.zeros(1), recipe,
            Loss.parse(recipe.loss), fabric=self.fabric, progress=self.progress,
            rows=rows, stage=stage,
        )  # fmt: skip
        return head.eval()

    def outputs(self, head: Decide, images: Sequence[int] | Rows) -> Output:
        """What a head says of some images (n), which can be read; on the CPU."""
        with torch.inference_mode():
            return _on_cpu([head(maps) for maps in self._maps(images)])

    def features(self, images: Sequence[int] | Rows) -> Floats:
        """Pooled features (n, D) of some images (n), which can be read; see `Familiarity`."""
        return np.concatenate([pooled(maps) for maps in self._maps(images)]).astype(np.float64)

    def _maps(self, images: Sequence[int] | Rows) -> Iterator[list[Tensor]]:
        """The maps of whole images, some at a time, in float32."""
        wholes = self.kept.wholes()
        place = dict(zip(self.kept.images[wholes].tolist(), wholes.tolist(), strict=True))
        rows = torch.tensor([place[int(image)] for image in images], dtype=torch.int64)
        for some in torch.split(rows, _TOGETHER):
            yield [feature.float() for feature in self.kept.maps(some, self.fabric.device)]

    def predict(self, head: Decide, images: Sequence[int] | Rows) -> list[Prediction]:
        """What a head says of some images, in order; presence and familiarity are left out."""
        output = self.outputs(head, images)
        names = [str(self.dataset.images[row]) for row in images]
        return _predictions(output, names, [self.sizes[row] for row in images])

    def out_of_fold(self, folds: int) -> OutOfFold:
        """Train `folds` heads, each without a part of the images, and ask each about that part."""
        fold = np.where(self.readable, assigned(self.dataset, folds), -1)
        predictions = [
            Prediction(str(image), error=error)
            for image, error in zip(self.dataset.images, self.errors, strict=True)
        ]
        heads, logits = [], torch.zeros(len(self.dataset))
        known = np.flatnonzero(fold >= 0)
        distances = np.full(len(self.dataset), np.nan)
        features = np.zeros((len(self.dataset), self.features(known[:1]).shape[1]))
        features[known] = self.features(known)
        for number in range(folds):
            rows = np.flatnonzero(fold == number)
            heads.append(self.fit((fold >= 0) & (fold != number), f"fold {number + 1} of {folds}"))
            if not len(rows):
                continue
            output = self.outputs(heads[-1], rows)
            others = np.flatnonzero((fold >= 0) & (fold != number))[:: max(len(fold) // _MOST, 1)]
            if len(others) > 1:  # one image alone has no spread
                distances[rows] = Familiarity.of(features[others], features[rows]).distance(features[rows])
            if output.presence is not None:
                logits[rows] = output.presence
            names = [str(self.dataset.images[row]) for row in rows]
            for row, found in zip(
                rows, _predictions(output, names, [self.sizes[r] for r in rows]), strict=True
            ):
                predictions[row] = found
        likeness = _ranks_of(distances[known])
        probabilities = np.full(len(known), np.nan)
        present = self.dataset.has_box[known]
        if (
            self.start.presence is not None and not present.all()
        ):  # those without it may be the unreadable ones
            own = logits[torch.from_numpy(known)]
            warmth = temperature(own, torch.from_numpy(present))
            probabilities = (own / warmth).sigmoid().double().numpy()
        for place, row in enumerate(known):
            predictions[row] = replace(
                predictions[row], presence=float(probabilities[place]), familiarity=float(likeness[place])
            )
        return OutOfFold(self.dataset, tuple(predictions), fold, self, tuple(heads))


def out_of_fold(
    dataset: Dataset,
    recipe: Recipe,
    *,
    folds: int = 5,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> OutOfFold:
    """Out-of-fold predictions of all images of `dataset`, whatever their split; see `Bank`.

    Raises DataError for an image that cannot be read, unless `skip_bad`, and where there are fewer than `folds` groups
    of images with a box.
    """
    assigned(dataset, folds)  # or it says why not, before the long part
    with tempfile.TemporaryDirectory(prefix="solobox-") as folder:
        fewest = max(len(dataset) * (folds - 1) // folds, 1)
        bank = Bank.of(
            dataset, recipe, folder=Path(folder), least=fewest, skip_bad=skip_bad, progress=progress
        )
        return bank.out_of_fold(folds)


def assigned(dataset: Dataset, folds: int) -> npt.NDArray[np.int64]:
    """Which fold each of N images is held out with, (N,): whole groups, in equal numbers, by a hash of their names.

    Raises ConfigError for fewer than two folds, DataError where fewer groups than folds have a box.
    """
    if folds < 2:
        raise ConfigError(f"folds are two or more, not {folds}")
    units = units_of(dataset)
    fold_of: dict[str, int] = {}
    with_box = Counter(unit for unit, box in zip(units, dataset.has_box.tolist(), strict=True) if box)
    if len(with_box) < folds:
        raise DataError(
            f"{len(with_box)} images with a box (a group counts as one) make no {folds} folds: use fewer of them"
        )
    rest = Counter(unit for unit in units if unit not in with_box)
    for counts in (with_box, rest):
        filled = [0] * folds
        order = list(ranked(counts, "fold"))
        # The largest first, since small ones can even out what they leave.
        for unit in sorted(order, key=lambda unit: -counts[unit]):
            fold_of[unit] = filled.index(min(filled))
            filled[fold_of[unit]] += counts[unit]
    return np.array([fold_of[unit] for unit in units], dtype=np.int64)


def units_of(dataset: Dataset) -> list[str]:
    """What each of N images never parts from, by name: its group, or itself alone where it has none."""
    # The prefix keeps an image named like a group out of it.
    return [
        f"g{group}" if group else f"n{name}" for group, name in zip(dataset.group, dataset.names, strict=True)
    ]


def _predictions(output: Output, names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[Prediction]:
    unknown = np.full(len(names), np.nan)
    return postprocess(raw_output(output, unknown, unknown), sizes, names)


def _on_cpu(outputs: Sequence[Output]) -> Output:
    """Outputs of one head after each other, as one."""
    positions = outputs[0].positions
    return Output(
        torch.cat([one.boxes for one in outputs]).cpu(),
        _together([one.logits for one in outputs]),
        None if positions is None else positions.cpu(),
        _together([one.presence for one in outputs]),
    )


def _together(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part.cpu() for part in parts if part is not None]
    return torch.cat(there) if there else None


def _ranks_of(distances: Floats) -> Floats:
    """Of each distance the share that are at least as far, itself among them; NaN stays and does not count."""
    ordered = np.sort(distances[~np.isnan(distances)])
    at_least = len(ordered) - np.searchsorted(ordered, distances, side="left")
    return np.where(np.isnan(distances), np.nan, at_least / max(len(ordered), 1))
