"""How well copies of an image are told from other images, and what it costs.

Run: python bench/identity.py [../shared/data] [--every N] [--many N]. True pairs: each image against itself, saved as
JPEG at quality 30 to 95, and at half and twice its size. False pairs: all pairs of different images of one shape.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from solobox.data.auto_groups import exact_keys, find_groups
from solobox.data.identity import (
    SAME,
    SIGNATURE,
    SIMILAR,
    difference,
    no_signatures,
    pairs,
    signature,
    signatures,
)  # fmt: skip
from solobox.utils.concurrency import threaded_map

VARIANTS = {
    "q30": (30, 1.0),
    "q50": (50, 1.0),
    "q75": (75, 1.0),
    "q95": (95, 1.0),
    "half": (85, 0.5),
    "twice": (85, 2.0),
}


def saved_again(path: Path) -> list[np.ndarray]:
    """The signatures of the variants of an image."""
    image = Image.open(path).convert("RGB")
    signs = []
    for quality, factor in VARIANTS.values():
        size = (max(round(image.width * factor), 1), max(round(image.height * factor), 1))
        stream = io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=quality)
        signs.append(signature(stream.getvalue()))
    return signs


def main() -> None:
    """Print the error rates and the seconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--many", type=int, default=1_000_000)
    options = parser.parse_args()
    sets = {
        name: sorted((options.data / name).glob("*.jpg"))[:: options.every]
        for name in ("caltech/face", "caltech/airplane", "plates/images")
    }
    paths = [path for images in sets.values() for path in images]
    for name, images in sets.items():
        start = time.perf_counter()
        signs = signatures(images)
        read = time.perf_counter() - start
        names = [str(path.relative_to(options.data)) for path in images]
        found = find_groups(names, [""] * len(names), exact_keys(images, signs), signs)
        print(
            f"{name}: {len(images)} images, {1000 * read / len(images):.1f} s per 1,000; {len(pairs(signs))} pairs the "
            f"same, {len(pairs(signs, SIMILAR))} similar; {found.copies} images in {found.sources} groups, "
            f"{len(found.likely)} likely pairs"
        )
    signs = signatures(paths)
    count = len(signs)
    again = [np.concatenate(each) for each in zip(*threaded_map(saved_again, paths), strict=True)]
    rows = np.arange(count)
    for name, variant in zip(VARIANTS, again, strict=True):
        both = np.concatenate([signs, variant])
        mean, most = difference(both, rows, rows + count)
        linked = {tuple(pair) for pair in pairs(both).tolist()}
        recognized = np.mean([(row, row + count) in linked for row in range(count)])
        print(
            f"{name}: mean p50 {np.median(mean):.2f}, p99 {np.quantile(mean, 0.99):.2f}, largest {most.max()}; "
            f"recognized {recognized:.2%}"
        )
    nearest: list[tuple[float, int, int, int]] = []
    total = 0
    for row in range(count - 1):
        others = np.arange(row + 1, count)
        mean, most = difference(signs, np.full(len(others), row), others)
        total += int(np.isfinite(mean).sum())
        close = np.flatnonzero(mean <= SIMILAR)
        nearest += list(
            zip(
                mean[close].tolist(),
                most[close].tolist(),
                [row] * len(close),
                others[close].tolist(),
                strict=True,
            )
        )
    print(f"different images: {total:,} pairs of one shape, {len(nearest)} up to {SIMILAR:g}, nearest:")
    for distance, largest, one, other in sorted(nearest)[:12]:
        print(f"  mean {distance:.2f} largest {largest}: {paths[one].name} {paths[other].name}")
    print(f"the same by both bounds ({SAME:g}): {len(pairs(signs))}")
    rng = np.random.default_rng(0)
    many = no_signatures(options.many)
    chosen = rng.integers(0, count, options.many)
    many["hash"] = signs["hash"][chosen] ^ rng.integers(0, 2**64, options.many, dtype=np.uint64)
    many["thumbnail"] = rng.integers(0, 256, (options.many, SIGNATURE["thumbnail"].shape[0]), dtype=np.uint8)
    many["aspect"] = signs["aspect"][chosen]
    start = time.perf_counter()
    pairs(many)
    print(
        f"{options.many:,} signatures ({many.nbytes / 1e6:.0f} MB): pairs in {time.perf_counter() - start:.1f} s"
    )


if __name__ == "__main__":
    main()
