"""Small labelled sets for the checks's tests, drawn and written out."""

from pathlib import Path

import numpy as np
from PIL import Image

from solobox.data import checks
from solobox.data.checks import Diagnosis, Finding
from solobox.data.formats.records import Annotations, Layout, Record
from solobox.data.layouts import CORNERS

Box = tuple[float, float, float, float]


class ImageSet:
    """A folder of tiny images, each with other bytes, and the records about them."""

    def __init__(self, folder: Path, format: str = "csv", layout: Layout = CORNERS) -> None:  # noqa: A002
        self.folder = folder
        self.layout = layout
        self.format = format
        self.records: list[Record] = []

    def image(
        self, name: str, size: tuple[int, int] = (100, 80), orientation: int = 1, content: str | None = None
    ) -> Path:
        """Save an image of this stored size; `content` is a format that differs from the name's."""
        path = self.folder / name
        seed = abs(hash((len(list(self.folder.iterdir())), size))) % 2**32
        noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize(size)
        exif = Image.Exif()
        if orientation != 1:
            exif[0x0112] = orientation
        image.save(path, format=content, exif=exif)
        return path

    def add(
        self,
        name: str,
        box: Box | None,
        *,
        size: tuple[int, int] = (100, 80),
        orientation: int = 1,
        split: str = "",
        group: str = "",
        label: str = "",
        text: str = "",
        extra: dict[str, str] | None = None,
        recorded: tuple[float, float] | None = None,
        draw: bool = True,
    ) -> None:
        """Add a record, and draw its image where it is not there yet."""
        if draw and not (self.folder / name).exists():
            self.image(name, size, orientation)
        row = len(self.records) + 2
        self.records.append(
            Record(
                row=row,
                where=f"boxes.csv, row {row}",
                image=name,
                path=self.folder / name,
                box=None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                text=text,
                split=split,
                group=group,
                label=label,
                extra=extra or {},
                size=recorded,
            )
        )

    def fine(self, count: int, start: int = 0, label: str = "") -> None:
        """Add unremarkable records that leave no doubt that the file holds corners in pixels."""
        for number in range(start, start + count):
            step = number % 7
            box = (20.0 + step, 30.0 + step, 70.0 + step, 60.0 + step)
            self.add(f"fine{number}.png", box, label=label)

    def annotations(self) -> Annotations:
        return Annotations(
            self.folder / "boxes.csv", self.format, "as it is", tuple(self.records), self.layout
        )

    def check(self, level: checks.CheckLevel = "pixels") -> Diagnosis:
        return checks.check(self.annotations(), level)

    def codes(self, level: checks.CheckLevel = "pixels") -> list[str]:
        return [finding.code for finding in self.check(level).findings]

    def only(self, level: checks.CheckLevel = "pixels") -> Finding:
        """The one finding there is."""
        (finding,) = self.check(level).findings
        return finding
