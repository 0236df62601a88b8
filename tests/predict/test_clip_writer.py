from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import image, write

from error_codes import has_code
from solobox.errors import ConfigError, DataError
from solobox.predict.video.clip_writer import write_clip
from solobox.predict.video.frames import open_clip


def times(path: Path) -> list[float]:
    with open_clip(str(path)) as clip:
        return [frame.time for frame in clip.frames()]


@pytest.mark.parametrize("ending", ["mp4", "m4v", "webm", "mkv"])
def test_it_is_vp9_that_every_browser_shows(tmp_path: Path, ending: str) -> None:
    with av.open(str(write(tmp_path / f"clip.{ending}"))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.codec.canonical_name, stream.pix_fmt) == ("vp9", "yuv420p")
        assert stream.average_rate == 25


def test_an_odd_size_gets_one_more_column_and_row(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.mp4", 3, size=(95, 63))
    with open_clip(str(path)) as clip:
        shapes = {frame.pixels.shape for frame in clip.frames() if frame.pixels is not None}
    assert shapes == {(64, 96, 3)}


def test_times_stay_as_they_were(tmp_path: Path) -> None:
    given = [0.0, 0.04, 0.2, 0.21, 0.9]
    with write_clip(tmp_path / "clip.mp4", Fraction(25), Fraction(1, 90_000)) as writer:
        for number, time in enumerate(given):
            writer.add(image(number), time)
    assert times(tmp_path / "clip.mp4") == pytest.approx(given, abs=1e-4)


def test_times_that_stand_still_or_are_unknown_become_later(tmp_path: Path) -> None:
    with write_clip(tmp_path / "clip.mp4", Fraction(25), Fraction(1, 25)) as writer:
        for number, time in enumerate([0.0, 0.04, 0.04, np.nan, 0.0]):
            writer.add(image(number), time)
    assert times(tmp_path / "clip.mp4") == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


def test_an_image_of_another_size_is_resized_to_the_first(tmp_path: Path) -> None:
    with write_clip(tmp_path / "clip.mp4", None, Fraction(1, 90_000)) as writer:
        writer.add(image(0), 0)
        writer.add(image(1, (48, 50)), 0.1)
        assert writer.count == 2
    with open_clip(str(tmp_path / "clip.mp4")) as clip:
        assert {frame.pixels.shape for frame in clip.frames() if frame.pixels is not None} == {(64, 96, 3)}


def test_a_run_that_breaks_off_leaves_the_old_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", 3)
    before = path.read_bytes()

    def breaking() -> None:
        with write_clip(path, Fraction(25), Fraction(1, 25)) as writer:
            for number in range(60):
                writer.add(image(number % 40), number / 25)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        breaking()
    assert path.read_bytes() == before
    assert [other.name for other in tmp_path.iterdir()] == ["clip.mp4"]


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".clip.mp4.0123abcd.part").write_bytes(b"half")
    write(tmp_path / "clip.mp4", 3)
    assert [other.name for other in tmp_path.iterdir()] == ["clip.mp4"]


def test_without_images_there_is_no_clip(tmp_path: Path) -> None:
    with write_clip(tmp_path / "clip.mp4", Fraction(25), Fraction(1, 25)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_written_are_errors(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, check=has_code("unknown-format")),
        write_clip(tmp_path / "a.gif", None, Fraction(1, 25)),
    ):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match="cannot be written"),
        write_clip(tmp_path / "file" / "a.mp4", None, Fraction(1, 25)),
    ):
        pass
