from pathlib import Path

import pytest
from check_sets import ImageSet


@pytest.fixture
def data(tmp_path: Path) -> ImageSet:
    data = ImageSet(tmp_path)
    data.fine(3)
    return data


BOX = (40.0, 35.0, 85.0, 65.0)


def test_a_missing_file_is_an_error_that_names_it_and_its_row(data: ImageSet) -> None:
    data.add("gone.png", BOX, draw=False)
    diagnosis = data.check()
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level) == ("missing-file", "error")
    assert (finding.row, finding.image) == (5, "gone.png")
    assert str(data.folder / "gone.png") in finding.message
    assert "--images" in finding.advice
    assert diagnosis.bad_rows == (3,)


@pytest.mark.parametrize("there", ["IMG_7.png", "img_7.jpg"])
def test_a_missing_file_with_nearly_this_name_beside_it(data: ImageSet, there: str) -> None:
    data.image(there)
    data.add("img_7.png", BOX, draw=False)
    assert there in data.only().advice


def test_each_missing_image_is_told_once_and_all_its_rows_are_bad(data: ImageSet) -> None:
    data.add("gone.png", (1, 1, 20, 20), draw=False)
    data.add("gone.png", (60, 50, 90, 70), draw=False)
    diagnosis = data.check()
    assert [finding.code for finding in diagnosis.errors] == ["missing-file"]
    assert diagnosis.bad_rows == (3, 4)


def test_a_folder_of_the_images_name_is_missing_too(data: ImageSet) -> None:
    (data.folder / "folder.png").mkdir()
    data.add("folder.png", BOX, draw=False)
    assert data.only().code == "missing-file"


def test_a_broken_link_is_called_so_and_where_it_leads(data: ImageSet) -> None:
    (data.folder / "link.png").symlink_to(data.folder / "moved" / "7.png")
    data.add("link.png", BOX, draw=False)
    finding = data.only()
    assert finding.code == "missing-file"
    assert f"broken link: {data.folder / 'moved' / '7.png'} does not exist" in finding.message
    assert "--images" not in finding.advice


def test_of_broken_links_alone_the_first_is_named(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    for number in range(3):
        (tmp_path / f"{number}.png").symlink_to(f"gone/{number}.png")
        data.add(f"{number}.png", BOX, draw=False)
    finding = data.only()
    assert finding.code == "no-images"
    assert "broken link: gone/0.png" in finding.message


def test_when_no_image_is_there_the_folder_is_at_fault_once(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    for number in range(5):
        data.add(f"{number}.png", BOX, draw=False)
    diagnosis = data.check()
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level, finding.row) == ("no-images", "error", 0)
    assert "--images" in finding.advice
    assert diagnosis.bad_rows == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("suffix", [".heic", ".pgm", ".nef"])
def test_any_suffix_of_an_image_that_contradicts_the_content_is_told(data: ImageSet, suffix: str) -> None:
    data.image(f"a{suffix}", content="JPEG")
    data.add(f"a{suffix}", BOX)
    assert data.only().code == "wrong-extension"


def test_nothing_is_looked_at_when_told_so(data: ImageSet) -> None:
    data.add("gone.png", BOX, draw=False)
    assert data.codes("numbers") == []


def test_a_truncated_image_is_found_by_decoding_and_not_by_its_header(data: ImageSet) -> None:
    path = data.folder / "cut.jpg"
    data.image("cut.jpg", (100, 80))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    data.add("cut.jpg", BOX)
    assert data.codes("headers") == []
    finding = data.only()
    assert (finding.code, finding.level, finding.image) == ("unreadable-image", "error", "cut.jpg")
    assert "truncated" in finding.message
    assert str(path) not in finding.message  # the file has a column of its own
    assert data.check().bad_rows == (3,)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_what_is_no_image_is_found_by_its_header(data: ImageSet, content: bytes) -> None:
    (data.folder / "page.jpg").write_bytes(content)
    data.add("page.jpg", BOX)
    assert data.only("headers").code == "unreadable-image"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.png", "JPEG", True),
        ("a.jpg", "PNG", True),
        ("a.heic", "JPEG", True),
        ("a.JPEG", "JPEG", False),
        ("a.tif", "TIFF", False),
        ("a.v2", "PNG", False),
        ("a", "PNG", False),
    ],
)
def test_a_name_that_says_another_format(data: ImageSet, name: str, content: str, told: bool) -> None:
    data.image(name, content=content)
    data.add(name, BOX)
    diagnosis = data.check()
    assert [finding.code for finding in diagnosis.findings] == ["wrong-extension"] * told
    assert diagnosis.bad_rows == ()
