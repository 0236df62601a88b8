"""Suspicious labels: their images are shown wherever the dataset says they are."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from folders import SIZE, TRUE, folder_of

from solobox.annotation.events import Answer
from solobox.annotation.session import open_session
from solobox.annotation.suspects import Suspect, Suspects
from solobox.data.dataset import Dataset


def suspects_of(dataset: Dataset) -> Suspects:
    """All labels."""
    why = Suspect(np.array(TRUE), "the label is shifted.")
    return Suspects(dataset, dict.fromkeys(range(len(dataset)), why))


def check_page(dataset: Dataset, out: Path) -> None:
    """Every image is shown, and what is decided is in the corrected copy."""
    suspects = suspects_of(dataset)
    session = open_session(suspects.folder(), out, suspects=suspects)
    for index in range(len(dataset)):
        task = session.task(index, "ann")
        assert (task.error, task.size) == ("", SIZE)
        assert session.folder.jpeg(index, 32)[:2] == b"\xff\xd8"
        answer = Answer(kind="box", box=TRUE, source="accepted", suggested=TRUE)
        session.answer(index, answer, person="ann", seen=task.seen)
    session.close()
    assert Dataset.read(out).boxes.tolist() == [list(TRUE)] * len(dataset)


def labelled(paths: Sequence[Path]) -> Dataset:
    return Dataset(paths, [(1.0, 2.0, 20.0, 21.0)] * len(paths))


def test_images_that_are_links_are_shown(tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "photos", 3)
    labelled(sorted(photos.rglob("*.jpg"))).write(tmp_path / "yolo", "yolo")
    dataset = Dataset.read(tmp_path / "yolo")
    assert all(path.is_symlink() for path in dataset.paths)
    check_page(dataset, tmp_path / "fixed.csv")


def test_images_on_several_drives_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Sequence[str]) -> str:
        raise ValueError("Paths don't have the same drive")  # as on Windows

    monkeypatch.setattr(os.path, "commonpath", refuse)
    one, other = folder_of(tmp_path / "c", 2), folder_of(tmp_path / "d", 2)
    dataset = labelled([one / "00.jpg", other / "00.jpg", one / "01.jpg"])
    assert suspects_of(dataset).names() == ["00.jpg", (other / "00.jpg").as_posix(), "01.jpg"]
    check_page(dataset, tmp_path / "fixed.csv")
