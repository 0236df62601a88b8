from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solobox.data.fingerprints import FILE, Fingerprints, fingerprint
from solobox.errors import ConfigError


def files(folder: Path, count: int, size: int = 20_000) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.bin" for number in range(count)]
    for path in paths:
        path.write_bytes(rng.bytes(size))
    return paths


def test_a_image_is_known_under_any_name(tmp_path: Path) -> None:
    a, b, c, d = files(tmp_path / "first", 4)
    known = Fingerprints.of([a, b], [c])
    elsewhere = tmp_path / "copy.jpg"
    elsewhere.write_bytes(a.read_bytes())
    assert known.splits([elsewhere, b, c, d, tmp_path / "nowhere"]).tolist() == [
        "train",
        "train",
        "val",
        "",
        "",
    ]


def test_size_and_both_ends_tell_files_apart(tmp_path: Path) -> None:
    (path,) = files(tmp_path / "f", 1)
    whole, prints = path.read_bytes(), {fingerprint(path)}
    for changed in (
        b"x" + whole[1:],
        whole[:-1] + b"x",
        whole[:10_000] + b"x" + whole[10_000:],
        b"",
        whole[:5],
    ):
        path.write_bytes(changed)
        prints.add(fingerprint(path))
    assert len(prints) == 6


def test_images_in_memory_are_known_by_their_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((6, 8, 3), np.uint8)
    known = Fingerprints.of([pixels], [])
    image = Image.fromarray(pixels)
    assert known.splits([image, pixels.copy(), pixels + np.uint8(1), pixels[:5]]).tolist() == [
        "train",
        "train",
        "",
        "",
    ]
    image.save(tmp_path / "a.png")
    assert fingerprint((tmp_path / "a.png").read_bytes()) == fingerprint(tmp_path / "a.png")


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    assert Fingerprints.load(tmp_path) is None
    paths = files(tmp_path / "f", 5)
    known = Fingerprints.of(paths[:3], paths[3:])
    known.save(tmp_path / FILE)
    again = Fingerprints.load(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.train, known.train)
    np.testing.assert_array_equal(again.val, known.val)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"text"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ConfigError, check=lambda error: error.code == "fingerprints-damaged"):
        Fingerprints.load(tmp_path)
