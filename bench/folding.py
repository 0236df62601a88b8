"""A step of the whole net's training on a CPU, as the modules compute it and folded: `python bench/folding.py`.

Forward, backward and the optimizer's step on random images in bf16 (or `--precision float32`), runs interleaved, the
ratio of each pair; then gradients of depthwise convolutions in bf16 and in float32, which is why some are computed in
float32 (`training/folding.py`).
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from solobox import Recipe
from solobox.model.localizer import Localizer
from solobox.model.losses import Loss
from solobox.training.finetune import to_train
from solobox.training.folding import folded

CASES: dict[str, tuple[str, dict[str, object]]] = {
    "EfficientNet-Lite0, 224, batch 32": ("finetune", {"size": 224}),
    "ResNet-50, 300, batch 16 (article)": ("article", {"pretrained": "none"}),
}
DEPTHWISE = (
    (96, 113, 3, 2),
    (144, 59, 5, 2),
    (672, 17, 5, 2),
    (1152, 7, 5, 1),
    (672, 14, 5, 1),
    (144, 56, 3, 1),
)
"""Channels, side, kernel and stride of some of EfficientNet-Lite0's, at 224."""


def seconds(step: Callable[[], object], times: int) -> float:
    step()
    started = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - started) / times


def steps(name: str, recipe: Recipe, kind: torch.dtype, rounds: int) -> None:
    localizer = Localizer(recipe.architecture, pretrained=recipe.pretrained)
    to_train(localizer)
    loss = Loss.parse(recipe.loss)
    optimizer = torch.optim.Adam(localizer.parameters(), lr=1e-6)
    side, batch = recipe.architecture.side, recipe.batch
    pixels = (
        torch.randint(0, 256, (batch, 3, side, side)).float().contiguous(memory_format=torch.channels_last)
    )
    targets = torch.tensor([[0.2, 0.2, 0.8, 0.8]]).expand(batch, 4)

    def step() -> None:
        with torch.autocast("cpu", kind, enabled=kind != torch.float32):
            output = localizer(pixels)
        loss(output, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    taken: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for fold, found in taken.items():
            with folded(localizer.backbone) if fold else contextlib.nullcontext():
                found.append(seconds(step, 3))
    ratio = statistics.median(a / b for a, b in zip(taken[False], taken[True], strict=True))
    plain, less = (statistics.median(found) for found in taken.values())
    print(f"{name:36s} {plain:6.2f} s  folded {less:5.2f} s  ratio {ratio:.2f}", flush=True)


def depthwise(batch: int = 32) -> None:
    print("\ndepthwise, gradients of maps and weights, ms      bf16  float32")
    for channels, side, kernel, stride in DEPTHWISE:
        taken = []
        for kind in (torch.bfloat16, torch.float32):
            maps = (
                torch.randn(batch, channels, side, side)
                .to(kind)
                .contiguous(memory_format=torch.channels_last)
            )
            weight = torch.randn(channels, 1, kernel, kernel).to(kind).requires_grad_()
            out = F.conv2d(maps.requires_grad_(), weight, None, stride, 0, 1, channels)
            given = torch.randn_like(out)
            both = maps, weight
            taken.append(
                1e3 * seconds(lambda: torch.autograd.grad(out, both, given, retain_graph=True), 3)  # noqa: B023
            )
        words = f"{channels} channels, {side} x {side}, {kernel} x {kernel}, stride {stride}"
        print(f"{words:46s} {taken[0]:7.1f} {taken[1]:8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    arguments = parser.parse_args()
    for name, (recipe, changes) in CASES.items():
        steps(name, Recipe.from_preset(recipe, changes), getattr(torch, arguments.precision), arguments.rounds)
    depthwise()


if __name__ == "__main__":
    main()
