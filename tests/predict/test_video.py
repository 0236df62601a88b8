import sys
from pathlib import Path

import av
import numpy as np
import pytest
from clips import SIZE, image, write

from error_codes import has_code
from solobox.errors import ConfigError, DataError
from solobox.predict.inputs import is_video
from solobox.predict.video import frames as video_frames
from solobox.predict.video.frames import Frame, open_clip, upright


def frames(path: Path) -> list[Frame]:
    with open_clip(str(path)) as clip:
        return list(clip.frames())


def close(pixels: np.ndarray | None, wanted: np.ndarray) -> bool:
    """Up to what VP9 loses."""
    assert pixels is not None
    assert pixels.shape == wanted.shape
    return float(np.abs(pixels.astype(int) - wanted).mean()) < 4


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".mkv", ".M4V"])
def test_written_and_read_back_it_is_the_same_clip(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"clip{ending}")
    with open_clip(str(path)) as clip:
        found = list(clip.frames())
        assert clip.rate == 25
        assert clip.count in (30, 0)  # Matroska and WebM do not say
    assert [frame.number for frame in found] == list(range(30))
    assert [frame.time for frame in found] == pytest.approx([number / 25 for number in range(30)], abs=6e-4)
    assert all(close(frame.pixels, image(frame.number)) and not frame.error for frame in found)
    assert all(frame.pixels is not None and frame.pixels.flags.c_contiguous for frame in found)
    assert [other.name for other in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("angle", [0, 90, 180, -90])
def test_a_rotated_clip_is_upright(tmp_path: Path, angle: int) -> None:
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.set_display_rotation(angle)  # counterclockwise
        for number in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image(number), format="rgb24")))
        container.mux(stream.encode(None))
    found = frames(path)
    assert [close(f.pixels, np.rot90(image(f.number), angle // 90)) for f in found] == [True] * 4


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("across", [1, -1])
@pytest.mark.parametrize("down", [1, -1])
def test_the_matrix_takes_every_pixel_where_it_says(swap: bool, across: int, down: int) -> None:
    height, width = 3, 5
    y, x = np.mgrid[:height, :width]
    linear = np.array([[0, down], [across, 0]] if swap else [[across, 0], [0, down]])
    matrix = np.zeros((3, 3), dtype=np.int32)
    matrix[:2, :2] = linear * 65536
    points = np.stack([x.ravel(), y.ravel()], axis=1) @ linear
    points -= points.min(axis=0)
    stored = np.stack([x, y, x * 0], axis=2).astype(np.uint8)
    wanted = np.zeros((points[:, 1].max() + 1, points[:, 0].max() + 1, 3), dtype=np.uint8)
    wanted[points[:, 1], points[:, 0]] = stored.reshape(-1, 3)
    assert np.array_equal(upright(stored, matrix), wanted)


def test_a_singular_matrix_leaves_the_image_alone() -> None:
    assert np.array_equal(upright(image(0), np.zeros((3, 3), dtype=np.int32)), image(0))


def test_a_clip_cut_off_gives_its_frames_and_then_an_error(tmp_path: Path) -> None:
    data = write(tmp_path / "whole.mp4", 60).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: 2 * len(data) // 3])
    found = frames(path)
    assert [frame.number for frame in found] == list(range(len(found)))
    good = [frame for frame in found if not frame.error]
    assert 5 < len(good) < 60
    assert all(close(frame.pixels, image(frame.number)) for frame in good)
    assert "ends early: its header announces 60 images" in found[-1].error
    assert str(path) in found[-1].error
    assert all(frame.pixels is None for frame in found if frame.error)


def test_frames_damaged_midway_are_errors_in_their_place(tmp_path: Path) -> None:
    path = tmp_path / "damaged.mov"
    with av.open(str(path), "w") as container:  # every image by itself, so that damage stays where it is
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "rgb24"
        for number in range(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image(number), format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    start = -1
    for _ in range(5):
        start = data.index(b"\x89PNG", start + 1)
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    found = frames(path)
    assert [frame.number for frame in found if frame.error] == [4]
    assert f"{path}: image 4 cannot be decoded" in found[4].error
    assert [frame.number for frame in found] == list(range(9))
    assert [frame.time for frame in found] == pytest.approx([number / 25 for number in range(9)])
    assert all(np.array_equal(f.pixels, image(f.number)) for f in found if f.pixels is not None)


def test_what_is_no_clip_is_an_error_that_says_what(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("#EXTM3U\nhttp://example.org/a.ts\n" * 20)
    with pytest.raises(DataError, check=has_code("clip-unreadable")):
        frames(text)
    text.write_bytes(b"")
    with pytest.raises(DataError, check=has_code("clip-unreadable")):
        frames(text)
    with pytest.raises(DataError, check=has_code("clip-unreadable")):
        frames(tmp_path / "lost.mp4")
    with pytest.raises(DataError, check=has_code("clip-unreadable")):
        frames(tmp_path)
    data = write(tmp_path / "whole.mp4").read_bytes()
    text.write_bytes(data[len(data) // 2 :])
    with pytest.raises(DataError, check=has_code("clip-unreadable")):
        frames(text)


def test_a_clip_without_images_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, check=has_code("clip-empty")):
        frames(path)
    empty = tmp_path / "empty.mkv"
    with av.open(str(empty), "w") as container:
        video_stream = container.add_stream("libx264", rate=25)
        video_stream.width, video_stream.height, video_stream.pix_fmt = *SIZE, "yuv420p"
        container.start_encoding()
    with pytest.raises(DataError, match=r"no image could be decoded|damaged"):
        frames(empty)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "clip.mp4", 3)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"\[video\] extra"):
        frames(path)


def test_a_camera_is_read_as_a_clip_and_a_missing_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, check=has_code("no-camera")):
        frames(Path("987"))
    # FFmpeg's own source of images in place of a camera: the way through PyAV is the same.
    monkeypatch.setattr(video_frames, "camera", lambda number: ("lavfi", "testsrc=size=64x48:rate=20"))
    with open_clip("0") as clip:
        found = [frame for _, frame in zip(range(5), clip.frames(), strict=False)]
    assert [frame.time for frame in found] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert all(frame.pixels is not None and frame.pixels.shape == (48, 64, 3) for frame in found)
    monkeypatch.setattr(video_frames, "camera", lambda number: ("lavfi", "nosuchsource"))
    with pytest.raises(DataError, check=has_code("no-camera")):
        frames(Path("0"))


def test_clips_and_cameras_are_recognized_by_their_names() -> None:
    assert all(map(is_video, ("a.mp4", "b/C.MOV", "d.mkv", "e.avi", "f.webm", "g.m4v", "0", "12")))
    assert not any(map(is_video, ("a.jpg", "mp4", "a.mp4.txt", "-1", "1.5", "", "a0", "²")))
