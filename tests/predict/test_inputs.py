import sys
import uuid
import zipfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solobox.errors import ConfigError, DataError
from solobox.predict.inputs import expand

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
