"""The whole net's training on a GPU: `python bench/gpu.py` (`--device cpu --quick` for tiny versions of it all).

First, images a second of the stage that trains the whole net: the loop itself (loss, gradients, clipping, optimizer,
running average) on images that lie on the device, with windows and colours made there, as a share of the very same
loop on one batch that is ready there. The two are interleaved. Aim: 0.90 or more, eager and compiled.

Then, where the real images are, seconds from JPEG files to the accuracy of the quick recipe on Caltech's test part:
the full recipe with 1, 2 and 4 passes over the whole net, until one of them is there.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from datasets import DATA, caltech, some
from solobox import Localizer, Recipe, train
from solobox.boxes import iou
from solobox.cli.console import quieten
from solobox.config.recipe import Accelerator
from solobox.model.losses import Loss
from solobox.model.sync_layers import Part
from solobox.training.compiling import compiled, eager
from solobox.training.finetune import from_resident, loss_of, to_train
from solobox.training.loop import Batch, Schedule, fit
from solobox.training.on_device import Resident
from solobox.utils.progress import Silent

GOAL = 0.94
"""Mean IoU of the quick recipe on Caltech's test part, see accuracy.py."""

TRUNKS = "tf_efficientnet_lite0", "convnext_tiny"


class Step:
    """Training of one backbone at one size of a batch, as `tune_everything` does it."""

    def __init__(self, recipe: Recipe, device: str, *, steps: int) -> None:
        precision = "bf16-mixed" if device == "cuda" else "32-true"
        self.recipe, self.steps = recipe, steps
        self.fabric = Fabric(accelerator=device, devices=1, precision=precision)  # type: ignore[arg-type]
        self.loss = Loss.parse(recipe.loss)
        self.module = Localizer(recipe.architecture).to(self.fabric.device)
        side, count = round(recipe.architecture.side * 1.25), steps * recipe.batch
        made = torch.Generator().manual_seed(0)
        few = torch.randint(0, 256, (64, side, 3, side), dtype=torch.uint8, generator=made)
        pixels = few.to(self.fabric.device).repeat(-(-count // 64), 1, 1, 1)[:count]
        boxes = torch.tensor([[0.2, 0.3, 0.7, 0.9]], device=self.fabric.device).repeat(count, 1)
        self.resident = Resident(pixels, boxes, boxes)

    def real(self) -> Iterator[Batch]:
        """Batches of an epoch, made on the device as training makes them."""
        groups = np.array_split(np.random.default_rng(0).permutation(len(self.resident)), self.steps)
        made = from_resident(self.resident, groups, self.recipe, 0)
        return ((*batch, Part(0, len(rows), len(rows))) for batch, rows in zip(made, groups, strict=True))

    def synthetic(self) -> Iterator[Batch]:
        """As many of them, all the same one."""
        batch = next(self.real())
        return (batch for _ in range(self.steps))

    def trial(self) -> Tensor:
        """See `compiled`."""
        return loss_of(self.module, next(self.real()), self.loss, self.fabric)

    def rate(self, batches: Callable[[], Iterator[Batch]], warm: int) -> float:
        """Images a second of an epoch, without its first `warm` steps."""
        seconds = 0.0

        def timed(epoch: int, start: int) -> Iterator[Batch]:
            nonlocal seconds
            started = 0.0
            for place, batch in enumerate(batches()):
                if place == warm:
                    started = self._now()
                yield batch
            seconds = self._now() - started

        settings = replace(self.recipe.optimizer_config, lr=1e-6)
        schedule = Schedule("finetune", 1, self.steps, settings, self.recipe.ema, seed=0)
        fit(
            self.module, timed, lambda _: torch.zeros(1), self.loss, schedule,
            fabric=self.fabric, progress=Silent(), to_train=to_train,
        )  # fmt: skip
        return (self.steps - warm) * self.recipe.batch / seconds

    def _now(self) -> float:
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def speed(device: str, sizes: list[int], *, steps: int, rounds: int, changes: dict[str, object]) -> None:
    print(
        f"{'backbone':24s} {'batch':>5s} {'':>9s} {'ready /s':>9s} {'real /s':>9s} {'share':>6s}   median of {rounds}"
    )
    for backbone in TRUNKS:
        for batch in sizes:
            recipe = Recipe.from_preset(
                "finetune",
                {"backbone": backbone, "pretrained": "none", "size": 224, "batch": batch} | changes,
            )
            step = Step(recipe, device, steps=steps)
            for kind in ("eager", "compiled"):
                if kind == "compiled" and not compiled(step.module, step.trial, print):
                    continue
                pairs = [
                    (step.rate(step.synthetic, steps // 4), step.rate(step.real, steps // 4))
                    for _ in range(rounds)
                ]
                ready, real = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
                share = statistics.median(b / a for a, b in pairs)
                print(
                    f"{backbone:24s} {batch:5d} {kind:>9s} {ready:9.1f} {real:9.1f} {share:6.2f}", flush=True
                )
            eager(step.module)


def accuracy(
    accelerator: Accelerator, passes: tuple[int, ...], *, few: int, changes: dict[str, object]
) -> None:
    training, test = caltech()
    if few:
        training, test = some(training, few, 0), some(test, few, 0)
    print(f"{'full recipe, passes':24s} {'train s':>9s} {'mean IoU':>9s}   aim {GOAL}")
    for count in passes:
        recipe = Recipe.from_preset(
            "finetune", {"test": 0.0, "finetune_epochs": count, "accelerator": accelerator} | changes
        )
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            train(training, Path(folder) / "run", recipe)
            seconds = time.perf_counter() - started
            found = Localizer.load(Path(folder) / "run").predict(list(test.images))
        reached = float(iou(np.stack([prediction.box for prediction in found]), test.boxes).mean())
        print(f"{count:24d} {seconds:9.1f} {reached:9.4f}", flush=True)
        if reached >= GOAL:
            break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--quick", action="store_true", help="tiny: to see that it runs, not how fast")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU here; --device cpu --quick shows that the script runs")
    quieten()
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}")
    if arguments.quick:
        tiny: dict[str, object] = {"size": 64, "width": 16}
        speed(arguments.device, [4], steps=4, rounds=1, changes=tiny)
    else:
        tiny = {}
        speed(arguments.device, arguments.batch, steps=120, rounds=3, changes=tiny)
    if not DATA.is_dir():
        print(f"{DATA} is not there: no accuracy")
    elif arguments.quick:
        accuracy(arguments.device, (1,), few=24, changes={"size": 64})
    else:
        accuracy(arguments.device, (1, 2, 4), few=0, changes={})


if __name__ == "__main__":
    main()
