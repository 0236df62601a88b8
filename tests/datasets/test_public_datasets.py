import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import miniatures
import numpy as np
import pytest
from file_server import Site, serving

from solobox import Dataset
from solobox.datasets import DATASETS, PublicDataset, download, find
from solobox.datasets.downloader import require_https
from solobox.datasets.selfie import ATTRIBUTES
from solobox.errors import ConfigError, DataError


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({})) as ready:
        yield ready


def miniature(name: str) -> PublicDataset:
    """A data set without the checksums that only the real archives have."""
    dataset = find(name)
    return replace(dataset, archives=tuple(replace(archive, checksum=None) for archive in dataset.archives))


def tables_of(
    site: Site, name: str, files: dict[str, bytes], folder: Path
) -> dict[str, list[dict[str, str]]]:
    """Download a miniature; returns its tables by name."""
    site.files = {f"/{file}": content for file, content in files.items()}
    result = download(miniature(name), folder, url=site.url)
    tables = {
        path.name: list(csv.DictReader(path.read_text().splitlines()))
        for path in sorted(folder.glob("*.csv"))
    }
    assert {name: count for name, count in result.counts.items() if count} == {
        name: len(rows) for name, rows in tables.items()
    }
    for rows in tables.values():
        for row in rows:
            assert "image" not in row or (folder / row["image"]).is_file()
    return tables


def test_the_selfies_come_without_boxes_and_with_all_that_is_known_of_them(
    site: Site, tmp_path: Path
) -> None:
    tables = tables_of(site, "selfie", miniatures.selfie(), tmp_path / "d")
    rows = tables["unlabelled.csv"]
    assert [row["image"] for row in rows] == [
        f"Selfie-dataset/images/{name}.jpg" for name in ("a1", "b2", "c3")
    ]
    assert list(rows[0]) == ["image", "popularity", *ATTRIBUTES]
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 36
    assert [row["popularity"] for row in rows] == ["3.25", "4.5", ""]
    assert [rows[0][name] for name in ("partial_faces", "is_female", "baby", "dim_lighting")] == [
        "1",
        "-1",
        "0",
        "0",
    ]
    ((what, why),) = [tuple(row.values()) for row in tables["skipped.csv"]]
    assert what == "Selfie-dataset/images/lost.jpg"
    assert "selfie_dataset.txt, row 3" in why
    assert "labels.csv" not in tables
    # Images that nobody has looked at must never be taken for images without the object.
    with pytest.raises(DataError, check=lambda error: error.code == "missing-column"):
        Dataset.read(tmp_path / "d" / "unlabelled.csv")


def test_a_selfie_without_all_its_values_is_listed_without_them(site: Site, tmp_path: Path) -> None:
    text = b"a1 3.25 1 1\n\n"
    files = {
        "Selfie-dataset.tar.gz": miniatures.tar_of(
            {
                "Selfie-dataset/selfie_dataset.txt": text,
                "Selfie-dataset/images/a1.jpg": miniatures.image(),
            }
        )
    }
    tables = tables_of(site, "selfie", files, tmp_path / "d")
    assert tables["unlabelled.csv"] == [{"image": "Selfie-dataset/images/a1.jpg"}]
    assert "row 1: 3 values instead of 37" in tables["skipped.csv"][0]["reason"]


def test_caltech101_joins_the_folders_that_are_named_otherwise(site: Site, tmp_path: Path) -> None:
    tables = tables_of(site, "caltech101", miniatures.caltech101(), tmp_path / "d")
    dataset = Dataset.read(tmp_path / "d" / "labels.csv")
    rows = dict(zip(dataset.names, dataset.boxes.tolist(), strict=True))
    # y1, y2, x1, x2 from 1, both inside: 3, 20, 5, 35 are 31 pixels across and 18 down.
    assert rows == {
        "101_ObjectCategories/Faces/image_0001.jpg": [0, 0, 40, 30],
        "101_ObjectCategories/Faces_easy/image_0001.jpg": [2, 1, 38, 29],
        "101_ObjectCategories/airplanes/image_0001.jpg": [4, 2, 35, 20],
        "101_ObjectCategories/ant/image_0001.jpg": [5, 3, 12, 10],
    }
    assert dataset.label == ("Faces", "Faces_easy", "airplanes", "ant")
    assert dataset.group == ("face 0001", "face 0001", "", "")
    assert set(dataset.split) == {""}
    assert set(dataset.source) == {"caltech101"}
    assert [row["image"] for row in tables["unlabelled.csv"]] == ["101_ObjectCategories/ant/image_0003.jpg"]
    ((what, why),) = [tuple(row.values()) for row in tables["skipped.csv"]]
    assert what == "101_ObjectCategories/ant/image_0002.jpg"
    assert "ant/annotation_0002.mat" in why
    assert "not readable" in why
    assert not any("BACKGROUND" in row.get("image", "") for rows in tables.values() for row in rows)


def test_pet_heads_keep_the_official_lists(site: Site, tmp_path: Path) -> None:
    tables = tables_of(site, "pet-heads", miniatures.pets(), tmp_path / "d")
    dataset = Dataset.read(tmp_path / "d" / "labels.csv")
    assert dataset.names == ("images/Abyssinian_1.jpg", "images/Bengal_9.jpg")
    np.testing.assert_array_equal(dataset.boxes, [[2, 4, 30, 20], [0, 0, 40, 30]])  # VOC counts from 1
    assert dataset.split == ("train", "")
    assert dataset.label == ("cat", "cat")
    assert dataset.extra["breed"] == ("Abyssinian", "Bengal")
    others = {row["image"]: (row["split"], row["breed"]) for row in tables["unlabelled.csv"]}
    assert others == {
        "images/Abyssinian_2.jpg": ("train", "Abyssinian"),
        "images/great_pyrenees_10.jpg": ("test", "great_pyrenees"),
        "images/great_pyrenees_11.jpg": ("test", "great_pyrenees"),
    }
    assert "skipped.csv" not in tables


def test_a_pet_in_both_lists_is_refused(site: Site, tmp_path: Path) -> None:
    files = miniatures.pets()
    text = {"annotations/trainval.txt": b"A_1 1 1 1\n", "annotations/test.txt": b"A_1 1 1 1\n"}
    xml = {"annotations/xmls/A_1.xml": miniatures._xml("A_1", "cat", (1, 1, 5, 5))}
    files["annotations.tar.gz"] = miniatures.tar_of(text | xml)
    with pytest.raises(DataError, match=r"A_1 is in trainval\.txt and in test\.txt"):
        tables_of(site, "pet-heads", files, tmp_path / "d")


def test_cub200_joins_its_tables_by_number(site: Site, tmp_path: Path) -> None:
    tables = tables_of(site, "cub200", miniatures.cub200(), tmp_path / "d")
    dataset = Dataset.read(tmp_path / "d" / "labels.csv")
    assert dataset.names == tuple(
        f"CUB_200_2011/images/001.Black_footed_Albatross/A_{number}.jpg" for number in (1, 2)
    )
    np.testing.assert_array_equal(dataset.boxes, [[6, 2, 38.5, 26], [0, 0, 10, 10]])
    assert dataset.split == ("train", "test")
    assert set(dataset.label) == {"Black_footed_Albatross"}
    ((what, why),) = [tuple(row.values()) for row in tables["skipped.csv"]]
    assert what.endswith("Y_1.jpg")
    assert "1.0 2.0 0.0 4.0" in why  # as the file wrote it: a box without width
    assert not (tmp_path / "d" / "attributes.txt").exists()


def test_a_table_with_a_number_twice_is_refused(site: Site, tmp_path: Path) -> None:
    files = {
        "CUB_200_2011.tgz": miniatures.tar_of(
            {"CUB_200_2011/images.txt": b"1 a.jpg\n1 b.jpg\n", "CUB_200_2011/images/a.jpg": b""}
        )
    }
    with pytest.raises(DataError, match=r"images\.txt, row 2"):
        tables_of(site, "cub200", files, tmp_path / "d")


def test_a_set_of_which_nothing_is_left_is_an_error(site: Site, tmp_path: Path) -> None:
    files = {
        "Selfie-dataset.tar.gz": miniatures.tar_of(
            {"Selfie-dataset/selfie_dataset.txt": b"a1 1 1\n", "Selfie-dataset/images/readme.txt": b""}
        )
    }
    with pytest.raises(DataError) as caught:
        tables_of(site, "selfie", files, tmp_path / "d")
    assert caught.value.code == "dataset-empty"
    assert json.loads((tmp_path / "d" / "download.json").read_text())["counts"] == {}


def test_what_is_declared_of_each_data_set_is_consistent() -> None:
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert all((dataset.description, dataset.homepage, dataset.license))
        require_https(dataset.homepage)
        for archive in dataset.archives:
            require_https(archive.url)
            assert archive.name.endswith((".tgz", ".tar.gz", ".zip"))
            kind, _, digest = (archive.checksum or "").partition(":")
            assert len(bytes.fromhex(digest)) == {"": 0, "md5": 16, "sha256": 32}[kind]
        folders = {folder for archive in dataset.archives for folder in archive.folders}
        assert dataset.image_folder.split("/")[0] in folders


def test_an_unknown_data_set_gets_a_hint_and_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        find("caltech-101")
    assert caught.value.code == "dataset-unknown"
    assert "'caltech101'?" in str(caught.value)
    assert "pet-heads" in str(caught.value)
