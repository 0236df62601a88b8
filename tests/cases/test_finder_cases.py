"""Images that are not where annotations say: found by what is sure, told once, and never by a guess."""

import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from case_files import BOX, codes, draw, draw_all, put
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from solobox.data import formats
from solobox.data.formats import csv
from solobox.data.formats.image_finder import ImageFinder

Form = Literal["NFC", "NFD"]


def table(folder: Path, names: list[str], file: str = "labels.csv") -> Path:
    rows = [f"{name},{','.join(map(str, BOX[index]))}" for index, name in enumerate(names)]
    return put(folder / file, "\n".join(["image,x1,y1,x2,y2", *rows]) + "\n")


@pytest.mark.parametrize(
    "name",
    [
        "C:\\Users\\me\\set\\images\\{}.png",
        "/content/drive/MyDrive/set/images/{}.png",
        "..\\..\\label-studio\\media\\upload\\1\\{}.png",
        "../elsewhere/{}.png",
        "https://example.org/files/images/{}.png?token=1",
        "s3://bucket/images/{}.png",
        "file:///home/me/set/{}.png",
        "/data/local-files/?d=set/images/{}.png",
        "/data/upload/3/0a1b2c3d-{}.png",
        "images/{}",
        "{}.jpeg",
        "IMAGES/{}.PNG",
    ],
)
@pytest.mark.parametrize("with_images", [False, True])
def test_names_of_elsewhere(tmp_path: Path, name: str, with_images: bool) -> None:
    draw_all(tmp_path / "images")
    file = table(tmp_path, [name.format(index) for index in range(6)])
    found = formats.read(file, tmp_path / "images" if with_images else None)
    assert [record.path for record in found.records] == [tmp_path / "images" / f"{i}.png" for i in range(6)]
    assert len(codes(found)) == len(found.problems) == 1  # said once for all
    assert codes(found)[0] in {"images-found-elsewhere", "image-name-differs"}


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_forms_and_escapes(tmp_path: Path, forms: tuple[Form, Form]) -> None:
    written, stored = (unicodedata.normalize(form, "größe é {} x.png") for form in forms)
    draw_all(tmp_path / "images", name=stored)
    names = [f"images/{written.format(index)}" for index in range(6)]
    escaped = [name.replace(" ", "%20") for name in names]
    for each in (names, escaped):
        found = formats.read(table(tmp_path, each)).records
        assert [record.path.name for record in found] == [stored.format(index) for index in range(6)]


def test_a_single_missing_image_is_the_only_one(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", range(1, 6))
    found = formats.read(table(tmp_path, [f"/gone/images/{index}.png" for index in range(6)]))
    assert [record.path.exists() for record in found.records] == [False, *[True] * 5]


def test_what_is_found_is_written(tmp_path: Path) -> None:
    draw_all(tmp_path / "images")
    found = formats.read(table(tmp_path, [f"/content/set/images/{index}.png" for index in range(6)]))
    csv.write(tmp_path / "copy" / "clean.csv", found.records)
    again = formats.read(tmp_path / "copy" / "clean.csv")
    assert not again.problems
    assert [each.path.resolve() for each in again.records] == [each.path for each in found.records]
    assert [each.image for each in again.records] == [each.image for each in found.records]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["a/1.png", "b/1.png"], "/content/1.png"),
        (["1.jpg", "1.png"], "1"),
        (["a/1.jpg", "b/1.png"], "1.tif"),
        (["x/a/1.png", "y/a/1.png"], "C:\\a\\1.png"),
    ],
)
def test_two_candidates_are_no_match(tmp_path: Path, files: list[str], name: str) -> None:
    for shade, file in enumerate(files):
        draw(tmp_path / file, shade)
    found = formats.read(table(tmp_path, [name]))
    assert not found.records[0].path.exists()
    (problem,) = found.problems
    assert (problem.code, problem.record) == ("ambiguous-image", 0)
    assert all(Path(file).name in problem.message for file in files)


def test_the_longest_last_part_decides(tmp_path: Path) -> None:
    for place in ("one/cats", "one/dogs", "two/cats"):
        draw(tmp_path / place / "1.png")
    found = formats.read(table(tmp_path, ["/x/one/cats/1.png", "/x/dogs/1.png"])).records
    assert [record.path for record in found] == [tmp_path / "one/cats/1.png", tmp_path / "one/dogs/1.png"]


def test_an_image_of_one_split_is_none_of_another(tmp_path: Path) -> None:
    draw_all(tmp_path / "train")
    found = formats.read(table(tmp_path, ["val/1.png", "val/2.png"]))
    assert not any(record.path.exists() for record in found.records)


def test_two_names_for_one_file_are_an_error(tmp_path: Path) -> None:
    draw_all(tmp_path / "images")
    found = formats.read(table(tmp_path, ["images/0.png", "/x/0.png", "images/1.png", "images/./2.png"]))
    assert [(each.code, each.record) for each in found.problems] == [
        ("images-collide", 0),
        ("images-collide", 1),
    ]


def test_one_image_in_two_spellings_is_one_path(tmp_path: Path) -> None:
    draw_all(tmp_path / "images")
    found = formats.read(table(tmp_path, ["images/2.png", "images/../images/2.png", "./images//2.png"]))
    assert not found.problems
    assert len({record.path for record in found.records}) == 1


def test_detours_through_links_stay(tmp_path: Path) -> None:
    draw(tmp_path / "far" / "deep" / "x.png")
    draw(tmp_path / "far" / "1.png")
    draw(tmp_path / "1.png", 3)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    (record,) = formats.read(table(tmp_path, ["link/../1.png"])).records
    assert record.path.samefile(tmp_path / "far" / "1.png")


@pytest.mark.parametrize(
    ("names", "files", "at_fault"),
    [
        # renamed roots and folders, all names in the same way
        (["old/cats/1", "old/dogs/2"], ["new/cats/1", "new/dogs/2"], []),
        (["old/cats/1"], ["new/cats/1"], []),
        (["old/1", "old/2", "old/3"], ["new/1", "new/2", "new/3"], []),
        (
            ["/x/cats/1", "/x/cats/2", "/x/dogs/3", "/x/dogs/4"],
            ["katzen/1", "katzen/2", "hunde/3", "hunde/4"],
            [],
        ),
        (["cats/1", "dogs/2", "birds/3"], ["all/1", "all/2", "all/3"], []),  # put together
        (["set/1", "set/2", "set/3", "set/4"], ["a/1", "a/2", "b/3", "b/4"], []),  # sorted later
        (["1", "2", "3"], ["a/1", "b/2", "c/3"], []),  # no folder is named
        (["/home/me/1", "2"], ["1", "2"], []),
        (["/home/me/1"], ["1"], []),
        # what may be another image
        (["cats/1", "dogs/2"], ["dogs/1", "dogs/2"], [0]),
        (["cats/1", "birds/2"], ["dogs/1", "birds/2"], [0]),
        (["cats/1"], ["dogs/1"], [0]),
        (["cats/1", "cats/2", "cats/3"], ["cats/1", "cats/2", "dogs/3"], [2]),
        (["/x/cats/1", "/x/cats/2", "/x/cats/3"], ["cats/1", "cats/2", "dogs/3"], [2]),
        (["cats/1", "cats/2", "dogs/3", "dogs/4"], ["a/1", "b/2", "a/3", "b/4"], [0, 1, 2, 3]),
    ],
)
def test_a_file_in_another_folder_is_the_image_only_where_all_names_say_so(
    tmp_path: Path, names: list[str], files: list[str], at_fault: list[int]
) -> None:
    for shade, file in enumerate(files):
        draw(tmp_path / f"{file}.png", shade)
    found = formats.read(table(tmp_path, [f"{name}.png" for name in names]))
    assert all(record.path.exists() for record in found.records)
    errors = [(each.code, each.record) for each in found.problems if each.record is not None]
    assert errors == [("image-in-other-folder", index) for index in at_fault]


@pytest.mark.parametrize("right", [True, False])
def test_a_rare_size_that_the_file_records_proves_the_image(tmp_path: Path, right: bool) -> None:
    rows = []
    for index in range(12):
        folder = "cats" if index else "dogs"
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (100 + index, 80)).save(tmp_path / folder / f"{index}.png")
        width = 100 + index if right or index else 90
        rows.append(f"cats/{index}.png,{width},80,4,4,40,40")
    file = put(tmp_path / "labels.csv", "\n".join(["image,width,height,x1,y1,x2,y2", *rows]) + "\n")
    problems = formats.read(file).problems
    assert [each.code for each in problems] == [
        "images-found-elsewhere" if right else "image-in-other-folder"
    ]


PART = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=4)
PATHS = st.lists(PART, min_size=1, max_size=4).map(lambda parts: "/".join(parts) + ".png")


@given(stored=st.lists(PATHS, min_size=1, max_size=6, unique_by=str.casefold), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_match_is_the_only_one_with_the_most_last_parts(
    tmp_path_factory: pytest.TempPathFactory, stored: list[str], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("root")
    for path in stored:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    name = data.draw(st.sampled_from(stored))
    prefix = data.draw(st.sampled_from(["/gone/", "C:\\gone\\", "https://gone.org/", "../../gone/"]))
    cut = name.split("/")[data.draw(st.integers(0, name.count("/"))) :]
    found = ImageFinder(root).find(prefix + "/".join(cut))

    def common(path: str) -> int:
        parts, count = [each.casefold() for each in path.split("/")], 0
        while count < min(len(parts), len(cut)) and parts[-1 - count] == cut[-1 - count].casefold():
            count += 1
        return count

    best = max(map(common, stored))
    fitting = [path for path in stored if common(path) == best]
    if found.exists():
        assert found == root / name or found.relative_to(root).as_posix() in fitting
    else:
        assert len(fitting) > 1 or "\0" in name


@given(name=st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_name_has_an_answer(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    finder = ImageFinder(folder / "none", images=None)
    assert isinstance(finder.find(name, instead="x"), Path)
    assert not finder.problems(folder, [])
