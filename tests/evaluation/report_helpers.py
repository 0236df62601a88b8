"""Evaluations for reports, and a parser of their pages."""

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from solobox.data.dataset import Dataset
from solobox.evaluation.metrics import Evaluation, evaluate_predictions
from solobox.evaluation.report import RunMetadata, write_report
from solobox.predict.prediction import Prediction

EVIL = '<script>alert("x")</script>&.jpg'
VOID = {"meta", "img", "image", "rect", "br", "path", "link", "input", "hr", "wbr"}
SECTIONS = ["result", "uncertainty", "errors", "training", "images", "data", "reproduce", "unreadable"]
RUN = RunMetadata(
    name="runs/<b>one</b>",
    recipe={"epochs": 3, "losses": {"kl": 1.0}, "amp": True, "weights": None, "lr": 0.002},
    history=[
        {"epoch": e, "train_loss": 2.0 / e, "val_iou": 1 - 1 / (e + 1), "seconds": 1.5} for e in (1, 2, 3)
    ],
    backbone="tf_efficientnet_lite0",
    seed=7,
    data="boxes.csv",
    command="solobox train boxes.csv -o 'runs/a & b'",
    versions={"torch": "2.11.0"},
    counts={"train": 80, "val": 10, "test": 10, "negatives": 2, "several_boxes": 1, "unreadable": 3},
    seconds={"features": 12.34, "head": 200.0},
    best_epoch=2,
)


@dataclass
class Page(HTMLParser):
    """The content of a page; fails on tags that are not closed in order."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: str = ""
    numbers: dict[str, str] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text += data
        if self.tags and (name := self.tags[-1][1].get("data-metric")) and name not in self.numbers:
            self.numbers[name] = data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", self.text)


def parse(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    assert page.open == []
    return page


def make(
    folder: Path,
    n: int,
    *,
    labels: bool = True,
    names: dict[int, str] | None = None,
    unreadable: tuple[int, ...] = (),
) -> Evaluation:
    """An evaluation of n gray images, each box a little worse than the last; `unreadable` are rows."""
    rng = np.random.default_rng(0)
    images, boxes, predictions = [], [], []
    for i in range(n):
        path = folder / f"image_{i:03}.png"
        width, height = int(rng.integers(60, 120)), int(rng.integers(60, 120))
        Image.new("RGB", (width, height), (110, 120, 130)).save(path)
        box = np.array([10.0, 12.0, width - 15.0, height - 10.0])
        images.append(path)
        boxes.append(box)
        shift = np.array([0.3 * i, 0, 0.3 * i, 0])
        predictions.append(
            Prediction(str(path), error=f"broken <i>{i}</i>")
            if i in unreadable
            else Prediction(str(path), box + shift, (width, height))
        )
    dataset = Dataset(
        images=images,
        boxes=np.array(boxes).reshape(-1, 4),
        label=[("cat", "dog")[i % 2] for i in range(n)] if labels else None,
        names=[(names or {}).get(i, image.name) for i, image in enumerate(images)],
    )
    return evaluate_predictions(dataset, predictions, "test")


def report(
    folder: Path, evaluation: Evaluation, run: RunMetadata | None = RUN, title: str = "A report"
) -> Page:
    path = folder / "report.html"
    write_report(path, evaluation, title=title, run=run)
    return parse(path)


def with_uncertainty(
    evaluation: Evaluation, *, negatives: int = 4, margin: float = 4, shift: float = 0, groups: bool = False
) -> Evaluation:
    """The same images by a model with margins, presence and familiarity, and some images without the object."""
    move = np.array([shift, 0, shift, 0])
    predictions = [
        p
        if p.error
        else replace(
            p,
            box=p.box + move,
            lower=p.box + move - margin,
            upper=p.box + move + margin,
            presence=min(0.3 + 0.02 * row, 1.0),
            familiarity=(row + 1) / 50,
        )
        for row, p in enumerate(evaluation.predictions)
    ]
    n = len(predictions)
    dataset = evaluation.dataset
    extended = Dataset(
        images=[*dataset.images, *dataset.images[:negatives]],
        boxes=np.concatenate([dataset.boxes, np.full((negatives, 4), np.nan)]),
        label=[*dataset.label, *[""] * negatives],
        names=[*dataset.names, *[f"empty_{row}" for row in range(negatives)]],
        group=[f"p{row // 2}" for row in range(n + negatives)] if groups else None,
    )
    negative = [Prediction("", np.ones(4), (60, 60), presence=0.2 + 0.2 * row) for row in range(negatives)]
    return evaluate_predictions(extended, [*predictions, *negative], "test")
