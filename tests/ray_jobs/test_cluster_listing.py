import zipfile
from pathlib import Path

import fsspec
import pytest
from cluster_standins import new_bucket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solobox.errors import DataError
from solobox.ray.listing import listed

NAMES = ("b.jpg", "a.PNG", "notes.md", "deep/c.webp", "deep/er/d.jpg", "odd[1].jpg")
IMAGES = ["a.PNG", "b.jpg", "odd[1].jpg", "deep/c.webp", "deep/er/d.jpg"]
"""The images among them in the order of a walk."""


@pytest.fixture
def bucket() -> str:
    return new_bucket()


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


def full(folder: str, name: str) -> str:
    """Local names are absolute paths, others are URLs."""
    bare = folder.removeprefix("file://")
    return f"memory:///{bare.removeprefix('memory://')}/{name}" if "memory" in bare else f"{bare}/{name}"


def same(names: list[str]) -> list[str]:
    return [name.replace("memory:///", "memory://") for name in names]


def test_a_folder_is_all_images_below_it(folder: str) -> None:
    assert same(list(listed([folder]))) == same([full(folder, name) for name in IMAGES])


def test_a_local_name_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a::b.jpg").touch()
    assert list(listed([str(tmp_path), str(tmp_path / "c::d.jpg")])) == [
        str(tmp_path / "a::b.jpg"), str(tmp_path / "c::d.jpg"),
    ]  # fmt: skip


def test_patterns_and_single_images_keep_the_order_given(folder: str) -> None:
    found = list(listed([f"{folder}/deep/*", f"{folder}/lost.jpg", f"{folder}/odd[1].jpg"]))
    assert same(found) == same([full(folder, name) for name in ("deep/c.webp", "lost.jpg", "odd[1].jpg")])


def test_a_text_names_a_image_on_each_line(folder: str) -> None:
    path = put(folder, "list.txt", "\ufeffb.jpg\n\n  deep/c.webp \r\ns3://bucket/e.jpg\n/abs/f.jpg\nb.jpg\n")
    assert same(list(listed([path]))) == same(
        [
            full(folder, "b.jpg"),
            full(folder, "deep/c.webp"),
            "s3://bucket/e.jpg",
            "/abs/f.jpg",
            full(folder, "b.jpg"),
        ]
    )


def test_a_csv_names_them_in_a_column(folder: str) -> None:
    path = put(folder, "list.csv", 'label,URL\ncat,"a, b.jpg"\ndog,s3://bucket/e.jpg\n')
    assert same(list(listed([path]))) == same([full(folder, "a, b.jpg"), "s3://bucket/e.jpg"])


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("list.csv", "file,label\na.jpg,1\n", r"none of its columns \(file, label\) is called image or url"),
        ("list.csv", "", r"none of its columns \(none\)"),
        ("list.csv", "image,label\na.jpg,1\n,2\n", "row 2 names no image"),
        ("list.txt", "\n\n", "no images in"),
    ],
)
def test_what_is_wrong_with_a_list_is_said(folder: str, name: str, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        list(listed([put(folder, name, text)]))


def test_what_holds_no_images_is_an_error(folder: str) -> None:
    for item, told in (
        (f"{folder}/*.bmp", "no images in"),
        (f"{folder}/lost.txt", "there is no such file"),
        ("nowhere://bucket/", "nowhere"),
    ):
        with pytest.raises(DataError, match=told):
            list(listed([item]))


def test_a_list_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.jpg\n\xff\xfe.jpg\n")
    with pytest.raises(DataError, match=r"list.txt: cannot be read"):
        list(listed([str(path)]))


def test_images_in_an_archive_are_named_so_that_they_can_be_opened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("in/a.jpg", b"first")
        archive.writestr("in/b.jpg", b"second")
    (one, two) = listed([f"zip://in::{tmp_path}/all.zip"])
    with fsspec.open(one) as first, fsspec.open(two) as second:
        assert (first.read(), second.read()) == (b"first", b"second")


def test_an_address_on_the_web_is_one_image() -> None:
    assert list(listed(["https://localhost:1/image?id=7"])) == ["https://localhost:1/image?id=7"]


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
    assert list(listed([str(path)])) == names
