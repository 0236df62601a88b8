"""Other detectors on the licence plates, for five times our time: `python bench/peer.py [--yolo PROGRAM]`.

``solobox``: the default recipe. ``fasterrcnn``: torchvision's Faster R-CNN at 640 px on a pyramid over the strides 8,
16 and 32 of the same backbone with the same ImageNet weights. ``yolo``: YOLO11n at 640 px from random weights, by the
command of an environment of its own, which is under the AGPL and never imported here. The box is the one with the
highest score; an image without any counts as IoU 0. All on this machine's processors, one after the other.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from datasets import plates
from solobox import Dataset, Recipe, train
from solobox.boxes import convert, iou
from solobox.cli.console import quieten
from solobox.images.reading import ImageInput, decode
from solobox.model.backbone import Backbone

SIZE = 640
BATCH = 4
Boxes = npt.NDArray[np.float64]


def solobox(training: Dataset, test: Dataset, seed: int) -> tuple[Boxes, float]:
    """Boxes (n, 4), and seconds of training."""
    recipe = Recipe.from_preset("quick", {"test": 0.0, "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        localizer = train(training, Path(folder) / "run", recipe)
        seconds = time.perf_counter() - started
    return np.stack([prediction.box for prediction in localizer.predict(list(test.images))]), seconds


class Pyramid(nn.Module):
    """The backbone with a feature pyramid, as torchvision's detectors expect one."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone("tf_efficientnet_lite0", strides=(8, 16, 32), pretrained="bundled")
        self.out_channels = 128
        self.pyramid = FeaturePyramidNetwork(
            list(self.backbone.channels), self.out_channels, LastLevelMaxPool()
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in 0..255 to maps by name, the finest first."""
        maps = self.backbone(pixels)
        named: dict[str, Tensor] = self.pyramid({str(index): each for index, each in enumerate(maps)})
        return named


def fasterrcnn(training: Dataset, test: Dataset, seed: int, budget: float) -> tuple[Boxes, float]:
    """As `solobox`; the learning rate falls along a cosine to the end of the budget, in seconds."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = FasterRCNN(
        Pyramid(), 2, min_size=SIZE * 720 // 1280, max_size=SIZE, image_mean=[0, 0, 0], image_std=[1 / 255] * 3,
        rpn_anchor_generator=AnchorGenerator(((16,), (32,), (64,), (128,)), ((0.25, 0.5, 1.0),) * 4),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, weight_decay=0.02)
    started = time.perf_counter()
    images = [_planes(image) for image in training.images]
    network.train()
    network.backbone.backbone.eval()  # the statistics of ImageNet: batches are small
    steps = 0
    while (spent := time.perf_counter() - started) < budget:
        rows = rng.choice(len(images), BATCH, replace=False)
        batch, targets = [], []
        for row in rows.tolist():
            pixels, box = images[row], torch.from_numpy(training.boxes[row]).float()
            if rng.random() < 0.5:
                pixels = pixels.flip(2)
                box = torch.stack([pixels.shape[2] - box[2], box[1], pixels.shape[2] - box[0], box[3]])
            batch.append(pixels)
            targets.append({"boxes": box[None], "labels": torch.ones(1, dtype=torch.int64)})
        loss = sum(network(batch, targets).values())
        for group in optimizer.param_groups:
            group["lr"] = 3e-4 * min(1.0, (steps + 1) / 50) * (1 + np.cos(np.pi * spent / budget)) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10)
        optimizer.step()
        steps += 1
    seconds = time.perf_counter() - started
    print(f"  {steps} steps of {BATCH} images")
    network.eval()
    boxes = np.zeros((len(test), 4))
    with torch.inference_mode():
        for row, image in enumerate(test.images):
            (found,) = network([_planes(image)])
            if len(found["boxes"]):
                boxes[row] = found["boxes"][0].numpy()  # sorted by score
    return boxes, seconds


def _planes(image: ImageInput) -> Tensor:
    """(3, h, w) in 0..1, what torchvision takes: its normalization turns it into the backbone's 0..255."""
    return torch.from_numpy(decode(image).pixels).permute(2, 0, 1).float() / 255


def yolo(program: str, training: Dataset, test: Dataset, seed: int, budget: float) -> tuple[Boxes, float]:
    """As `solobox`, by the command-line program."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training.with_splits(val=0.1, test=0.0).write(folder / "data", "yolo")
        photos = folder / "photos"
        photos.mkdir()
        for row, path in enumerate(test.paths):
            (photos / f"{row:04d}{path.suffix}").symlink_to(path.absolute())
        started = time.perf_counter()
        _call(
            program, "train", "model=yolo11n.yaml", f"data={folder}/data/data.yaml", f"imgsz={SIZE}", "batch=8",
            "device=cpu", f"time={budget / 3600:.6f}", f"seed={seed}", f"project={folder}", "name=run", "plots=False",
            "pretrained=False",
        )  # fmt: skip
        seconds = time.perf_counter() - started
        _call(
            program, "predict", f"model={folder}/run/weights/best.pt", f"source={photos}", f"imgsz={SIZE}",
            "conf=0.001", "max_det=1", "save=False", "save_txt=True", "save_conf=True", "name=found",
            f"project={folder}", "device=cpu",
        )  # fmt: skip
        boxes = np.zeros((len(test), 4))
        for row, image in enumerate(test.images):
            labels = folder / "found" / "labels" / f"{row:04d}.txt"
            if labels.exists():
                _, *box, _ = map(float, labels.read_text().splitlines()[0].split())
                boxes[row] = convert(box, "cxcywh", "xyxy") * np.tile(decode(image).size, 2)
    return boxes, seconds


def _call(program: str, *words: str) -> None:
    done = subprocess.run([program, "detect", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yolo", default="", help="the program `yolo` of another environment")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    quieten()
    training, test = plates()

    def report(name: str, result: tuple[Boxes, float]) -> float:
        boxes, seconds = result
        overlap = iou(boxes, test.boxes)
        shares = " ".join(f"{(overlap >= at).mean():.3f}" for at in (0.5, 0.75, 0.9))
        print(f"{name:12s} {overlap.mean():.4f}  {shares}  {seconds:7.1f} s", flush=True)
        return seconds

    print("              mean IoU  >= .5, .75, .9, seconds of training")
    for seed in range(arguments.seeds):
        budget = 5 * report("solobox", solobox(training, test, seed))
        report("fasterrcnn", fasterrcnn(training, test, seed, budget))
        if arguments.yolo:
            report("yolo", yolo(arguments.yolo, training, test, seed, budget))


if __name__ == "__main__":
    main()
