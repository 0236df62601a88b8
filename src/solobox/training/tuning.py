"""The full stage: the trunk trained too, on windows of pictures that are decoded once and kept."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox.errors import DataError, PictureError
from solobox.localizer.localizer import Localizer
from solobox.localizer.losses import Loss, box_iou
from solobox.pictures import Picture, to_square
from solobox.samples import Samples
from solobox.training.loop import Batch, Epoch, Schedule, fit
from solobox.training.progress import Progress
from solobox.training.recipe import Recipe
from solobox.training.store import Store
from solobox.training.views import generator, in_threads, load, views

_OVERSAMPLING = 1.25


def tune_everything(
    localizer: Localizer,
    training: Samples,
    validation: Samples,
    recipe: Recipe,
    loss: Loss,
    out: Path,
    fabric: Fabric,
    progress: Progress,
    *,
    skip_bad: bool,
) -> tuple[list[Epoch], int, list[str]]:
    """Train trunk, vectorizer and head together for `recipe.full_epochs` passes over the pictures.

    Each pass shows each picture once, in a window drawn anew (the whole picture when `recipe.windows` is 1). The
    trunk's batch normalisation keeps its statistics: batches are small, and ImageNet's are good.

    On a CPU it says first how long that will take.
    """
    side = recipe.architecture.size
    fitting = _Squares(
        training, recipe, round(side * _OVERSAMPLING), out, progress, "pictures", skip_bad=skip_bad
    )
    checking = _Squares(validation, recipe, side, out, progress, "validation pictures", skip_bad=skip_bad)
    localizer.requires_grad_(True)
    steps = -(-len(fitting) // recipe.batch)

    def batches(epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng([recipe.seed, epoch, 1]).permutation(len(fitting))
        groups = [order[start : start + recipe.batch] for start in range(0, len(order), recipe.batch)]
        for pixels, targets in in_threads(lambda rows: _batch(fitting, rows, recipe, epoch), groups):
            yield pixels.to(fabric.device), targets.to(fabric.device)

    def score(module: nn.Module) -> Tensor:
        return _ious(module, checking, fabric)

    if fabric.device.type == "cpu":
        seconds = _seconds_per_step(localizer, next(batches(0)), loss, fabric)
        minutes = seconds * steps * recipe.full_epochs / 60
        progress.say(
            f"full training of the trunk: {recipe.full_epochs} x {steps} steps of {seconds:.1f} s, about "
            f"{minutes:.0f} min on this CPU (Ctrl-C stops it; --recipe quick does without)"
        )
    schedule = Schedule(
        "full", recipe.full_epochs, steps, recipe.full_lr, recipe.weight_decay, recipe.ema, recipe.seed + 1
    )
    history, chosen = fit(
        localizer,
        batches,
        score,
        loss,
        schedule,
        fabric=fabric,
        progress=progress,
        to_train=_all_but_statistics,
    )
    return history, chosen, [*fitting.unreadable, *checking.unreadable]


class _Squares:
    """Pictures squashed to squares of `side` pixels, kept in a `Store`, and their boxes as fractions."""

    def __init__(
        self,
        samples: Samples,
        recipe: Recipe,
        side: int,
        out: Path,
        progress: Progress,
        stage: str,
        *,
        skip_bad: bool,
    ) -> None:
        progress.start(stage, len(samples))
        self.side = side
        self.unreadable: list[str] = []
        self.store = Store(
            len(samples), [(side, side, 3)], torch.uint8, budget=recipe.ram_gb * 1e9 / 2, folder=out
        )
        boxes: list[np.ndarray] = []
        names: list[str] = []
        for index, picture in enumerate(in_threads(lambda path: _loaded(path, side), samples.images)):
            progress.advance()
            if isinstance(picture, PictureError):
                if not skip_bad:
                    raise DataError(f"{samples.where[index]}: {picture}") from picture
                self.unreadable.append(str(picture))
                continue
            square = torch.from_numpy(to_square(picture.pixels, side))
            self.store.put(len(names), [square.unsqueeze(0)])
            width, height = picture.size
            boxes.append(samples.boxes[index] / [width, height, width, height])
            names.append(samples.names[index])
        if not names:
            raise DataError("none of these pictures can be read; `solobox check` lists what is wrong")
        self.boxes, self.names = np.stack(boxes), names

    def __len__(self) -> int:
        return len(self.names)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """(n, side, side, 3) uint8."""
        return self.store.get(torch.from_numpy(rows))[0].numpy()


def _loaded(path: Path, side: int) -> Picture | PictureError:
    try:
        return load(path, side)
    except PictureError as error:
        return error


def _batch(squares: _Squares, rows: np.ndarray, recipe: Recipe, epoch: int) -> tuple[Tensor, Tensor]:
    """Float pixels (n, 3, size, size) and targets (n, 4) for one step."""
    plain = recipe.windows == 1
    shown, targets = [], []
    for row, pixels in zip(rows, squares.pixels(rows), strict=True):
        rng = generator(recipe.seed, epoch + 1, squares.names[row])
        picture = Picture(pixels, (squares.side, squares.side))
        view = views(
            picture, squares.boxes[row] * squares.side, 1, recipe.architecture.size, rng, first_whole=plain
        )
        shown.append(view.pixels[0])
        targets.append(view.targets[0])
    tensor = torch.from_numpy(np.stack(shown)).float()
    wanted = torch.from_numpy(np.stack(targets)).float().clamp(-0.03, 1.03)
    return tensor.contiguous(memory_format=torch.channels_last), wanted


def _all_but_statistics(module: nn.Module) -> None:
    """Training mode, except for the trunk's normalisation layers."""
    module.train()
    assert isinstance(module, Localizer)  # noqa: S101
    module.backbone.eval()


def _ious(module: nn.Module, squares: _Squares, fabric: Fabric) -> Tensor:
    found = []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(squares)), -(-len(squares) // 32)):
            pixels = torch.from_numpy(squares.pixels(rows)).permute(0, 3, 1, 2).float().to(fabric.device)
            with fabric.autocast():
                boxes = module(pixels).boxes
            truth = torch.from_numpy(squares.boxes[rows]).float()
            found.append(box_iou(boxes.float().cpu().clamp(0, 1), truth))
    return torch.cat(found)


def _seconds_per_step(localizer: Localizer, batch: Batch, loss: Loss, fabric: Fabric) -> float:
    """Time one forward and backward pass, after one to warm up; gradients are thrown away."""
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        with fabric.autocast():
            output = localizer(batch[0])
        loss(output, batch[1]).backward()  # type: ignore[no-untyped-call]
        seconds = time.perf_counter() - started
    localizer.zero_grad(set_to_none=True)
    return seconds
