"""The drift alarm: how often it is false, and after how many images it comes. `python bench/drift.py`.

The pooled features of the real sets are computed once. Then, again and again, a set is divided at random by groups: one
half trains, a tenth of it held out, which is what familiarity is calibrated on; the other half is a stream that should
raise no alarm: each image once, shuffled; drawn with replacement to `--length` images, where what is wrong about the
calibration must show; and each once in the order of their names, where those of a scene or person follow each other
and nothing is promised.

Delays: images of another set, or held-out ones that are blurred, dark or grey, come after so many familiar ones.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from datasets import whole
from solobox import Recipe
from solobox.boxes import Floats
from solobox.cli.console import quieten
from solobox.images.reading import read
from solobox.model.localizer import Localizer, pooled
from solobox.training.folds import groups_of
from solobox.training.stages import initial_localizer
from solobox.uncertainty.drift import DriftDetector
from solobox.uncertainty.familiarity import Familiarity

CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(max(image.size) / 150)),
    "dark": lambda image: image.point(lambda value: int(value * 0.3)),
    "grey": lambda image: image.convert("L").convert("RGB"),
}
LATE = (0, 1000)


@dataclass(frozen=True)
class Featured:
    """n images: groups, and pooled features (n, D), also of the changed ones by the kind of change."""

    groups: np.ndarray
    features: Floats
    changed: dict[str, Floats]


def featured(name: str, localizer: Localizer) -> Featured:
    dataset = whole(name).with_auto_groups()
    dataset = dataset.select(np.argsort(np.array(dataset.names), kind="stable"))
    images = [Image.fromarray(read(path).pixels) for path in dataset.paths]
    changed = {
        change: features_of(localizer, map(of, images))
        if name in ("airplane", "plates")
        else np.zeros((0, 0))
        for change, of in CHANGES.items()
    }
    return Featured(np.array(groups_of(dataset), dtype=object), features_of(localizer, images), changed)


def features_of(localizer: Localizer, images: Iterable[Image.Image]) -> Floats:
    def one(image: Image.Image) -> Floats:
        square = localizer.preprocess(np.asarray(image)).pixels[np.newaxis]
        maps = localizer.maps(np.ascontiguousarray(square.transpose(0, 3, 1, 2)))
        return np.asarray(pooled(maps)[0], dtype=np.float64)

    return np.stack([one(image) for image in images])


def fitted(of: Featured, seed: int) -> tuple[Familiarity, np.ndarray]:
    """Familiarity as training makes it from one half, and the rows of the other."""
    names = np.unique(of.groups)
    order = np.random.default_rng([3, seed]).permutation(len(names))
    # Whole groups until a half of the images is reached: groups differ in size.
    rank = dict(zip(names[order], range(len(names)), strict=True))
    rows = np.array(sorted(range(len(of.groups)), key=lambda row: rank[of.groups[row]]))
    val, half = len(rows) // 20, len(rows) // 2
    training, held_out, stream = rows[val:half], rows[:val], np.sort(rows[half:])
    familiarity = Familiarity.fit(
        of.features[training],
        of.features[held_out],
        list(of.groups[training]),
        held_out_groups=list(of.groups[held_out]),
    )
    return familiarity, stream


def alarm(familiarity: Familiarity, features: Floats) -> tuple[int, int] | None:
    """The number of the image with the first alarm, and where drift is said to begin, both from 1; None without."""
    detector = DriftDetector(familiarity.n_groups)
    for number, value in enumerate(familiarity(features).tolist(), 1):
        if detector.add(value) and detector.span is not None:
            return number, detector.span.first
    return None


def false_alarms(name: str, of: Featured, times: int, length: int) -> None:
    counts, sizes = np.zeros(3, int), []
    for seed in range(times):
        familiarity, stream = fitted(of, seed)
        sizes.append((len(familiarity.distances), familiarity.n_groups, len(stream)))
        rng = np.random.default_rng([4, seed])
        for kind, rows in enumerate((rng.permutation(stream), rng.choice(stream, length), stream)):
            counts[kind] += alarm(familiarity, of.features[rows]) is not None
    images, groups, rest = np.median(sizes, axis=0).astype(int)
    print(
        f"| {name} | {images}, {groups} | {rest} | {counts[0]} of {times} | {counts[1]} of {times} | "
        f"{counts[2]} of {times} |",
        flush=True,
    )


def delays(name: str, of: Featured, strange: str, features: Floats, times: int) -> None:
    cells = []
    for late in LATE:
        found, began = [], []
        for seed in range(times):
            familiarity, stream = fitted(of, seed)
            rng = np.random.default_rng([5, seed])
            rows = stream if len(features) == len(of.features) else np.arange(len(features))
            after = features[rng.permutation(rows)]
            before = of.features[rng.choice(stream, late)] if late else after[:0]
            first = alarm(familiarity, np.concatenate([before, after]))
            if first is not None:
                found.append(first[0] - late)
                began.append(first[1] - late)
        middle = (f"{np.median(found):.0f} ({np.min(found):.0f} to {np.max(found):.0f}), began {np.median(began):+.0f}"
                  if found else "-")  # fmt: skip
        cells.append(f"{len(found)} of {times}: {middle}")
    print(f"| {name} | {strange}, {len(features)} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--delays", type=int, default=20)
    parser.add_argument("--length", type=int, default=5000)
    parser.add_argument("--sets", nargs="+", default=["airplane", "face", "kangaroo", "plates"])
    arguments = parser.parse_args()
    quieten()
    localizer = initial_localizer(
        Recipe.from_preset("quick", {"size": arguments.size}), presence=False
    ).eval()
    sets = {name: featured(name, localizer) for name in arguments.sets}
    print("| set | calibration images, groups | stream | once, shuffled | drawn again | by name |")
    print("|---|---|---|---|---|---|")
    for name, of in sets.items():
        false_alarms(name, of, arguments.times, arguments.length)
    heads = " | ".join(f"images until the alarm, after {late:,} familiar ones" for late in LATE)
    print(f"\n| set | then | {heads} |\n|---|---|{'---|' * len(LATE)}")
    for name, of in sets.items():
        for other, strange in sets.items():
            if other != name:
                delays(name, of, other, strange.features, arguments.delays)
        for change, features in of.changed.items():
            if len(features):
                delays(name, of, change, features, arguments.delays)


if __name__ == "__main__":
    main()
