import errno
import os
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solobox.errors import ConfigError, DataError, ImageError
from solobox.images.reading import probe
from solobox.predict.inputs import LeftOut, expand

NAMES = ("b.jpg", "a.PNG", "notes.md", "deep/c.webp", "deep/er/d.jpg", "odd[1].jpg")
IMAGES = ["a.PNG", "b.jpg", "deep/c.webp", "deep/er/d.jpg", "odd[1].jpg"]
"""The images among them, by name."""


@pytest.fixture
def bucket() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "file://", "memory://"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> str:
    root = {"local": str(tmp_path), "file://": f"file://{tmp_path}", "memory://": bucket}[request.param]
    for name in NAMES:
        put(root, name, "x")
    return root


def put(folder: str, name: str, text: str) -> str:
    store = fsspec.filesystem("memory" if folder.startswith("memory") else "file")
    store.makedirs(f"{folder}/{name}".rsplit("/", 1)[0], exist_ok=True)
    store.pipe_file(f"{folder}/{name}", text.encode())
    return f"{folder}/{name}"


def url(folder: str, name: str) -> str:
    """As the lister names it: local files by their paths."""
    bare = folder.removeprefix("file://")
    return f"memory:///{bare.removeprefix('memory://')}/{name}" if "memory" in bare else f"{bare}/{name}"


def same(names: list[str]) -> list[str]:
    return [name.replace("memory:///", "memory://") for name in names]


def test_a_folder_is_all_images_below_it(folder: str) -> None:
    assert same(expand([folder])) == same([url(folder, name) for name in IMAGES])


def test_a_local_name_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a::b.jpg").touch()
    assert expand([str(tmp_path), str(tmp_path / "c::d.jpg")]) == [
        str(tmp_path / "a::b.jpg"), str(tmp_path / "c::d.jpg"),
    ]  # fmt: skip


def test_patterns_and_single_images_keep_the_order_given(folder: str) -> None:
    found = expand([f"{folder}/deep/*", f"{folder}/lost.jpg", f"{folder}/odd[1].jpg"])
    assert same(found) == same([url(folder, name) for name in ("deep/c.webp", "lost.jpg", "odd[1].jpg")])


def test_a_text_names_an_image_on_each_line(folder: str) -> None:
    path = put(folder, "list.txt", "\ufeffb.jpg\n\n  deep/c.webp \r\ns3://bucket/e.jpg\n/abs/f.jpg\nb.jpg\n")
    assert same(expand([path])) == same(
        [
            url(folder, "b.jpg"),
            url(folder, "deep/c.webp"),
            "s3://bucket/e.jpg",
            "/abs/f.jpg",
            url(folder, "b.jpg"),
        ]
    )


def test_a_csv_names_them_in_a_column(folder: str) -> None:
    path = put(folder, "list.csv", 'label,URL\ncat,"a, b.jpg"\ndog,s3://bucket/e.jpg\n')
    assert same(expand([path])) == same([url(folder, "a, b.jpg"), "s3://bucket/e.jpg"])


@pytest.mark.parametrize(
    ("name", "text", "code", "says"),
    [
        ("list.csv", "file,label\na.jpg,1\n", "list-damaged", "(file, label)"),
        ("list.csv", "", "list-damaged", "(none)"),
        ("list.csv", "image,label\na.jpg,1\n,2\n", "list-damaged", "row 2"),
        ("list.txt", "\n\n", "no-images", "list.txt"),
    ],
)
def test_what_is_wrong_with_a_list_is_an_error(
    folder: str, name: str, text: str, code: str, says: str
) -> None:
    with pytest.raises(DataError) as error:
        expand([put(folder, name, text)])
    assert error.value.code == code
    assert says in str(error.value)


def test_inputs_without_images_are_errors(folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for item, code in (
        (f"{folder}/*.bmp", "no-images"),
        (str(tmp_path / "empty"), "no-images"),
        (f"{folder}/lost.txt", "file-unreadable"),
        ("nowhere://bucket/", "unknown-store"),
    ):
        with pytest.raises(DataError) as error:
            expand([item])
        assert error.value.code == code
        assert item.removeprefix("file://") in str(error.value)


def test_a_list_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.jpg\n\xff\xfe.jpg\n")
    with pytest.raises(DataError) as error:
        expand([str(path)])
    assert error.value.code == "file-unreadable"


def test_relative_names_stay_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("deep", "a.jpg", "x")
    put(".", "list.txt", "deep/a.jpg\n")
    for inputs in (["."], ["deep/"], ["*/*.jpg"], ["**/*.jpg"], ["list.txt"], ["deep/a.jpg"]):
        assert expand(inputs) == ["deep/a.jpg"]


def test_without_fsspec_local_inputs_work_and_urls_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(str(tmp_path), "a.jpg", "x")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert expand([tmp_path]) == [str(tmp_path / "a.jpg")]
    with pytest.raises(ConfigError, match=r"\[ray\] extra") as error:
        expand(["s3://bucket/"])
    assert error.value.code == "missing-package"


def test_images_in_an_archive_are_named_so_that_they_can_be_opened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("in/a.jpg", b"first")
        archive.writestr("in/b.jpg", b"second")
    (one, two) = expand([f"zip://in::{tmp_path}/all.zip"])
    with fsspec.open(one) as first, fsspec.open(two) as second:
        assert (first.read(), second.read()) == (b"first", b"second")


def test_an_address_on_the_web_is_one_image() -> None:
    assert expand(["https://localhost:1/image?id=7"]) == ["https://localhost:1/image?id=7"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=9
        ).map("/images/".__add__),
        min_size=1,
    )
)
def test_a_list_gives_every_line_in_order(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    assert expand([str(path)]) == names


def broken_link(path: Path) -> None:
    try:
        path.symlink_to(path.with_name("gone"))
    except OSError:
        pytest.skip("no links here")


def test_whatever_cannot_be_decoded_is_named_and_the_rest_is_counted(tmp_path: Path) -> None:
    images = [
        "a.jpg", "b.heic", "c.AVIF", "d.jxl", "deep/e.dng", "deep/f.psd", "deep/folder.jpg/g.png", "z.svg",
    ]  # fmt: skip
    litter = [
        "._a.jpg",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "__MACOSX/deep/._a.jpg",
        ".git/x.png",
        "deep/.h.jpg",
    ]
    others = ["notes.md", "deep/a.xml"]
    for name in images + litter + others:
        put(str(tmp_path), name, "x")
    left_out = LeftOut()
    assert expand([tmp_path], left_out) == [str(tmp_path / name) for name in images]
    assert left_out == LeftOut(hidden=7, others=2)
    assert "7 hidden" in str(left_out)
    assert str(LeftOut()) == ""


def test_broken_links_and_links_in_a_circle_are_named(tmp_path: Path) -> None:
    put(str(tmp_path), "real/a.jpg", "x")
    for name in ("b.jpg", "folder", "notes.md"):
        broken_link(tmp_path / name)
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "real" / "a.jpg")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    left_out = LeftOut()
    found = [Path(name).relative_to(tmp_path).as_posix() for name in expand([tmp_path], left_out)]
    assert found == ["b.jpg", "circle.jpg", "folder", "link.jpg", "real/a.jpg"]
    assert left_out == LeftOut(others=1, links=1)
    for name in ("b.jpg", "folder"):
        with pytest.raises(ImageError, match=r"broken link: .*gone"):
            probe(tmp_path / name)
    with pytest.raises(ImageError):
        probe(tmp_path / "circle.jpg")


def test_a_pattern_names_broken_links_and_counts_folders(tmp_path: Path) -> None:
    for name in ("a.jpg", "deep/b.jpg", "Thumbs.db", "__MACOSX/c.jpg"):
        put(str(tmp_path), name, "x")
    broken_link(tmp_path / "b.jpg")
    left_out = LeftOut()
    assert expand([f"{tmp_path}/*"], left_out) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    assert left_out == LeftOut(hidden=2, folders=1)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in ``photos`` that nobody may read, root included."""
    for name in ("photos/a.jpg", "photos/locked/b.jpg", "photos/z.jpg"):
        put(str(tmp_path), name, "x")
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return tmp_path / "photos" / "locked"


def test_a_folder_that_cannot_be_read_is_named(locked: Path) -> None:
    photos = locked.parent
    assert expand([photos]) == [str(photos / "a.jpg"), str(locked), str(photos / "z.jpg")]
    with pytest.raises(ImageError, match="Permission denied"):
        probe(locked)
    with pytest.raises(DataError) as error:  # given by itself, it is a mistake at once
        expand([locked])
    assert error.value.code == "file-unreadable"


def test_a_folder_of_litter_alone_says_so(tmp_path: Path) -> None:
    put(str(tmp_path), "._a.jpg", "x")
    with pytest.raises(DataError, match="1 hidden") as error:
        expand([tmp_path])
    assert error.value.code == "no-images"


def test_a_store_is_listed_alike(bucket: str) -> None:
    for name in ("a.jpg", "b.heic", "._a.jpg", "__MACOSX/a.jpg", "notes.md"):
        put(bucket, name, "x")
    left_out = LeftOut()
    assert [name.rsplit("/", 1)[1] for name in expand([bucket], left_out)] == ["a.jpg", "b.heic"]
    assert left_out == LeftOut(hidden=2, others=1)
