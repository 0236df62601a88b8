"""Clips of small objects: may the last frame's box be the first look? `python bench/clips_twice.py [--photos 40]`.

A camera pans over photographs with licence plates that the model has not seen: a window of 3/4 of the sides moves by
6 pixels a frame, so that the true box is known. Each frame is predicted from itself, by the first look and with its
second looks; and from the last frame's box, which is looked at again once or twice instead of the first look. Mean IoU,
shares at 0.5 and 0.75, and milliseconds of the processor a frame without reading and resizing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from datasets import plates, some
from solobox import Localizer, Recipe, train
from solobox.boxes import Floats, iou
from solobox.cli.console import quieten
from solobox.images.reading import decode
from solobox.model.refiner import crop_squares, from_crop, regions_around
from solobox.model.runtime import Pixels

STEP, SHARE = 6, 0.75
BOTH = "with second looks"
Way: TypeAlias = Callable[[Pixels], Tensor]


def looked_again(localizer: Localizer, pixels: Pixels, box: Tensor, times: int) -> Tensor:
    """The box (1, 4) as fractions after so many looks at crops around it."""
    assert localizer.refiner is not None
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float()
    for _ in range(times):
        regions = regions_around(box.float())
        crops = crop_squares(planes, regions, localizer.refiner.side)
        box = from_crop(localizer.refiner(localizer.maps(crops.to(torch.uint8).numpy())).boxes, regions)
    return box


def pan(photo: Pixels, box: Floats, frames: int, rng: np.random.Generator) -> list[tuple[Pixels, Floats]]:
    """Windows of the photo that hold the box, and the box in each."""
    height, width = photo.shape[:2]
    size = np.round(np.array([width, height]) * SHARE).astype(int)
    most = np.array([width, height]) - size
    at = np.clip(np.round((box[:2] + box[2:]) / 2 - size / 2), 0, most).astype(int)
    direction = rng.choice([-1, 1], 2)
    found = []
    for _ in range(frames):
        x, y = at.tolist()
        corners = box - np.tile(at, 2)
        if (corners[:2] < 0).any() or (corners[2:] > size).any():
            break
        found.append((photo[y : y + size[1], x : x + size[0]], corners / np.tile(size, 2)))
        direction = np.where(
            (at + direction * STEP < 0) | (at + direction * STEP > most), -direction, direction
        )
        at = np.clip(at + direction * STEP, 0, most)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--frames", type=int, default=12)
    arguments = parser.parse_args()
    quieten()
    training, test = plates()
    test = some(test, arguments.photos, 0)
    with tempfile.TemporaryDirectory() as folder:
        localizer = train(training, Path(folder) / "run", Recipe.from_preset("quick", {"test": 0.0}))
    last: list[Tensor] = []
    ways: dict[str, Way] = {
        "first look": lambda pixels: localizer.locate_fast(pixels, first_look=True).boxes.cpu(),
        BOTH: lambda pixels: localizer.locate_fast(pixels).boxes.cpu(),
        "last box, one look": lambda pixels: looked_again(localizer, pixels, last[-1], 1),
        "last box, two looks": lambda pixels: looked_again(localizer, pixels, last[-1], 2),
    }
    overlap: dict[str, list[float]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        for image, box in zip(test.images, test.boxes, strict=True):
            frames = pan(decode(image).pixels, box, arguments.frames, rng)
            for way, find in ways.items():
                last.clear()
                for pixels, true in frames:
                    square = localizer.preprocess(pixels).pixels[np.newaxis]
                    started = time.process_time()
                    box_now = (
                        (ways[BOTH] if way.startswith("last") and not last else find)(square)
                        .double()
                        .clamp(0, 1)
                    )
                    seconds[way] += time.process_time() - started
                    last.append(box_now)
                    overlap[way].append(float(iou(box_now[0].numpy(), true)))
    for way, values in overlap.items():
        found = np.array(values)
        shares = " ".join(f"{(found >= at).mean():.3f}" for at in (0.5, 0.75))
        print(f"{way:20s} {found.mean():.4f} {shares} {1000 * seconds[way] / len(found):6.1f} ms", flush=True)


if __name__ == "__main__":
    main()
