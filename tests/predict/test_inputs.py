from pathlib import Path

import pytest

from solobox.errors import DataError
from solobox.predict.inputs import expand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/c.webp", "odd[1].jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(found: list[str], folder: Path) -> list[str]:
    return [Path(path).relative_to(folder).as_posix() for path in found]


def test_a_folder_is_all_images_below_by_name(folder: Path) -> None:
    assert names(expand([folder]), folder) == ["a.PNG", "b.jpg", "deep/c.webp", "odd[1].jpg"]


def test_patterns_and_files_keep_the_order_given(folder: Path) -> None:
    found = expand([str(folder / "**" / "*.webp"), folder / "lost.jpg", str(folder / "*.jpg")])
    assert names(found, folder) == ["deep/c.webp", "lost.jpg", "b.jpg", "odd[1].jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(folder: Path) -> None:
    assert names(expand([folder / "odd[1].jpg"]), folder) == ["odd[1].jpg"]


def test_nothing_found_is_an_error_that_says_where(folder: Path) -> None:
    with pytest.raises(DataError, match="nothing matches"):
        expand([str(folder / "*.bmp")])
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no images in the folder"):
        expand([folder / "empty"])
