import csv
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from error_codes import has_code
from solobox.boxes import iou
from solobox.cli import predict as command
from solobox.cli import predict_jobs
from solobox.errors import ConfigError, DataError
from solobox.predict.inputs import clip_of
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from solobox.predict.video import frames
from solobox.predict.video.frames import open_clip

sys.path.append(str(Path(__file__).parents[1] / "predict"))
from clips import SIZE, Finder, write


def predict_video(model: Finder, source: str, **options: Any) -> int:
    """The command on a clip with this model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_jobs, "load", lambda *_: model)
        return command.predict("model", [source], **options)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def boxes(found: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[edge]) for edge in ("x1", "y1", "x2", "y2")] for row in found])


def truth(found: list[dict[str, str]]) -> np.ndarray:
    """By the time, which is right also where images before it are lost."""
    steps = np.array([25 * float(row["time_s"]) for row in found])[:, None]
    return np.asarray(np.array([10.0, 20, 30, 40]) + steps * [1.0, 0, 1, 0])


def test_a_row_for_each_image_and_a_drawn_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, track, drawn = (
        write(tmp_path / "clip.mp4"),
        tmp_path / "out" / "track.csv",
        tmp_path / "out" / "drawn.mp4",
    )
    status = predict_video(Finder(presence=0.75), str(clip), output=track, draw=drawn, margins=0.9)
    assert status == 0
    found = rows(track)
    assert list(found[0])[:4] == ["frame", "time_s", "image", "x1"]
    assert [row["frame"] for row in found] == [str(number) for number in range(30)]
    assert [float(row["time_s"]) for row in found] == pytest.approx([number / 25 for number in range(30)])
    assert {row["image"] for row in found} == {str(clip)}
    assert iou(boxes(found), truth(found)).min() > 0.8
    assert found[3]["presence"] == "0.7500"
    assert float(found[3]["x1_lower"]) == float(found[3]["x1"]) - 3
    with open_clip(str(drawn)) as shown:
        assert shown.rate == 25
        drawn_frames = list(shown.frames())
    assert [frame.time for frame in drawn_frames] == pytest.approx([number / 25 for number in range(30)])
    for number in (0, 29):  # orange is where the line is, and nowhere else
        pixels = drawn_frames[number].pixels
        assert pixels is not None
        orange = (np.abs(pixels.astype(int) - (255, 140, 26)) < 60).all(axis=2)
        x = np.nonzero(orange)[1]
        assert abs(int(x.min()) - (10 + number)) <= 4
        assert abs(int(x.max()) - (30 + number)) <= 4
    assert "drawn.mp4" in capsys.readouterr().err
    assert sorted(path.name for path in track.parent.iterdir()) == ["drawn.mp4", "track.csv"]


def test_rows_are_printed_or_written_as_json_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, track = write(tmp_path / "clip.mp4", 5), tmp_path / "track.jsonl"
    predict_video(Finder(), str(clip), margins=0.9, output=track)
    capsys.readouterr()
    predict_video(Finder(), str(clip), margins=0.9)
    printed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    lines = [json.loads(line) for line in track.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(5))
    for line, row in zip(lines, printed, strict=True):
        assert list(line) == list(row)
        assert line["x1"] == float(row["x1"])
        assert line["image"] == str(clip)
        assert line["presence"] is None
        assert row["presence"] == ""


class Jumpy(Finder):
    """Errs by some pixels, differently in each image."""

    def __init__(self, presence: float = np.nan) -> None:
        super().__init__(presence=presence)
        self.rng = np.random.default_rng(0)

    def found(self, pixels: np.ndarray) -> Prediction:
        one = super().found(pixels)
        box = np.clip(one.box + self.rng.normal(0, 1, 4), 0, np.tile(SIZE, 2))
        return Prediction("", box, one.size, lower=box - 2.5, upper=box + 2.5, presence=self.presence)


def test_smooth_gives_steadier_boxes(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", 60)
    jitter = {}
    for smooth in (False, True):
        path = tmp_path / f"{smooth}.csv"
        predict_video(Jumpy(), str(clip), output=path, smooth=smooth)
        jitter[smooth] = np.diff(boxes(rows(path)) - truth(rows(path)), 2, axis=0).std()
    assert jitter[True] < 0.7 * jitter[False]


@pytest.mark.parametrize("smooth", [False, True])
def test_below_the_least_presence_there_is_no_box(tmp_path: Path, smooth: bool) -> None:
    clip, path = write(tmp_path / "clip.mp4", 6), tmp_path / "track.csv"
    model = Jumpy(presence=0.3)
    predict_video(model, str(clip), output=path, min_presence=0.4, smooth=smooth)
    assert {(row["x1"], row["presence"]) for row in rows(path)} == {("", "0.3000")}
    predict_video(model, str(clip), output=path, min_presence=0.2, smooth=smooth, overwrite=True)
    assert "" not in {row["x1"] for row in rows(path)}


def test_images_that_cannot_be_decoded_have_their_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "whole.mp4", 60).read_bytes()
    clip, track, drawn = tmp_path / "cut.mp4", tmp_path / "track.csv", tmp_path / "drawn.mp4"
    clip.write_bytes(data[: 2 * len(data) // 3])
    assert predict_video(Finder(), str(clip), output=track, draw=drawn, smooth=True) == 1
    found = rows(track)
    good = [row for row in found if not row["error"]]
    assert iou(boxes(good), truth(good)).min() > 0.8
    assert "ends early" in found[-1]["error"]
    assert found[-1]["x1"] == ""
    with open_clip(str(drawn)) as shown:
        assert len(list(shown.frames())) == len(good)
    told = " ".join(capsys.readouterr().err.split())
    assert f"{len(found) - len(good)} of {len(found)} images could not be decoded" in told


def test_a_name_with_an_end_of_line_in_it_stays_one_row(tmp_path: Path) -> None:
    clip, track = write(tmp_path / "two\rlines.mp4", 3), tmp_path / "track.csv"
    predict_video(Finder(), str(clip), output=track)
    assert [row["image"] for row in rows(track)] == [str(clip)] * 3


class Breaking(Finder):
    def rows(self, images: Iterable[Any], options: PredictOptions) -> Iterator[Prediction]:
        for number, found in enumerate(super().rows(images, options)):
            if number == 9:
                raise RuntimeError("out of memory")
            yield found


def test_a_run_that_breaks_off_leaves_nothing_half_done(tmp_path: Path) -> None:
    clip, track, drawn = write(tmp_path / "clip.mp4"), tmp_path / "track.csv", tmp_path / "drawn.mp4"
    track.write_text("old")
    with pytest.raises(RuntimeError):
        predict_video(Breaking(), str(clip), output=track, draw=drawn, overwrite=True)
    assert track.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "track.csv"]


def test_wrong_names_are_errors_before_anything_is_done(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", 3)
    before = clip.read_bytes()
    with pytest.raises(ConfigError, check=has_code("unknown-format")):
        predict_video(Finder(), str(clip), output=tmp_path / "track.txt")
    with pytest.raises(ConfigError, check=has_code("unknown-format")):
        predict_video(Finder(), str(clip), draw=tmp_path / "drawn")
    (tmp_path / "link.mp4").symlink_to(clip)
    with pytest.raises(DataError, check=has_code("output-is-input")):
        predict_video(Finder(), str(clip), draw=tmp_path / "link.mp4")
    with pytest.raises(DataError, check=has_code("clip-unreadable")):
        predict_video(Finder(), "lost.mp4", output=tmp_path / "track.csv")
    assert clip.read_bytes() == before
    assert not (tmp_path / "track.csv").exists()


def test_a_clip_or_a_camera_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").mkdir()
    assert clip_of(["a.mp4"]) == "a.mp4"
    assert clip_of(["0"]) == "0"
    assert clip_of(["7"]) is None
    assert clip_of(["a.jpg", "7", "b.png"]) is None
    for inputs in (["a.mp4", "b.jpg"], ["a.jpg", "0"], ["a.mp4", "b.mp4"]):
        with pytest.raises(ConfigError, check=has_code("options-conflict")):
            clip_of(inputs)


class Interrupted(Finder):
    """Ctrl-C is pressed at the twelfth image."""

    def found(self, pixels: np.ndarray) -> Prediction:
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == 12:
            os.kill(os.getpid(), signal.SIGINT)
        box = np.array([1.0, 2, 3, 4])
        return Prediction("", box, (pixels.shape[1], pixels.shape[0]))


def test_a_camera_runs_until_ctrl_c_and_all_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "camera", lambda number: ("lavfi", "testsrc=size=64x48:rate=20"))
    before = signal.getsignal(signal.SIGINT)
    track, drawn = tmp_path / "track.csv", tmp_path / "drawn.mp4"
    assert predict_video(Interrupted(), "0", output=track, draw=drawn) == 0
    assert signal.getsignal(signal.SIGINT) is before
    found = rows(track)
    assert 12 <= len(found) <= 20
    assert [float(row["time_s"]) for row in found] == pytest.approx([n / 20 for n in range(len(found))])
    with open_clip(str(drawn)) as shown:
        assert len(list(shown.frames())) == len(found)
