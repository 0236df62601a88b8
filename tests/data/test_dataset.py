import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from solobox.data.dataset import Dataset
from solobox.data.formats import Annotations, Record
from solobox.data.one_per_image import ReadNotes
from solobox.data.sample import Sample
from solobox.errors import ConfigError, DataError

NAN = math.nan
BOX = (1.0, 2.0, 3.0, 4.0)
NONE = (NAN, NAN, NAN, NAN)
Box = tuple[float, float, float, float]


def put(folder: Path, *rows: str, header: str = "image,x1,y1,x2,y2,label,split") -> Path:
    path = folder / "boxes.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def numbered(count: int) -> Dataset:
    boxes = [NONE if index % 3 == 2 else (index, 0, index + 1, 5) for index in range(count)]
    names = [f"in/{index}.jpg" for index in range(count)]
    return Dataset(
        images=names,
        boxes=boxes,
        label=[f"l{index}" for index in range(count)],
        group=[f"g{index // 2}" for index in range(count)],
        extra={"note": [f"n{index}" for index in range(count)]},
        names=names,
        notes=ReadNotes(duplicates=3),
    )


class TestConstructor:
    def test_defaults(self) -> None:
        dataset = Dataset(["in/a.jpg", Path("b.jpg")], [BOX, NONE])
        assert len(dataset) == 2
        assert dataset.images == (Path("in/a.jpg"), Path("b.jpg"))
        assert dataset.boxes.dtype == np.float64
        assert dataset.names == ("a.jpg", "b.jpg")
        for texts in (dataset.split, dataset.group, dataset.label, dataset.source, dataset.where):
            assert texts == ("", "")
        assert dict(dataset.extra) == {}
        assert dataset.notes == ReadNotes()
        assert dataset.has_box.tolist() == [True, False]
        assert dataset.positives().images == (Path("in/a.jpg"),)

    def test_it_can_go_to_another_process(self) -> None:
        found = pickle.loads(pickle.dumps(numbered(3)))  # noqa: S301
        assert (found.names, dict(found.extra)) == (numbered(3).names, dict(numbered(3).extra))

    def test_empty(self) -> None:
        dataset = Dataset([], [])
        assert (len(dataset), dataset.boxes.shape, dataset.has_box.shape) == (0, (0, 4), (0,))

    def test_what_was_checked_cannot_change(self) -> None:
        boxes = np.array([BOX])
        dataset = Dataset(["a"], boxes)
        boxes[0, 2] = -5
        assert dataset.boxes[0, 2] == 3
        with pytest.raises(ValueError, match="read-only"):
            dataset.boxes[0, 2] = -5
        with pytest.raises(AttributeError):
            dataset.split = ("val",)  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("box", "why"),
        [
            ((3, 2, 3, 4), "x2 <= x1 in the box 3, 2, 3, 4"),
            ((1, 5, 0, 4), "x2 <= x1 and y2 <= y1"),
            ((1, 2, NAN, 4), "not four numbers"),
            ((1, 2, math.inf, 4), "not four numbers"),
        ],
    )
    def test_bad_boxes(self, box: Box, why: str) -> None:
        with pytest.raises(DataError, match=why, check=lambda error: error.code == "invalid-box"):
            Dataset(["a", "b"], [BOX, box])

    def test_an_unknown_split(self) -> None:
        with pytest.raises(DataError, check=lambda error: error.code == "unknown-split"):
            Dataset(["a"], [BOX], split=["dev"])

    @pytest.mark.parametrize("boxes", [[BOX, BOX], BOX, [(1, 2, 3)], []])
    def test_shapes(self, boxes: npt.ArrayLike) -> None:
        with pytest.raises(ValueError, match=r"1 images go with boxes of shape \(1, 4\)"):
            Dataset(["a"], boxes)

    def test_lengths(self) -> None:
        with pytest.raises(ValueError, match="1 entries of 'label', not 2"):
            Dataset(["a"], [BOX], label=["x", "y"])
        with pytest.raises(ValueError, match="1 entries of 'note', not 0"):
            Dataset(["a"], [BOX], extra={"note": []})
        with pytest.raises(ValueError, match="cannot be the names of extra columns"):
            Dataset(["a"], [BOX], extra={"label": ["x"]})


class TestSelect:
    @given(st.lists(st.integers(-7, 6), max_size=10))
    def test_rows_in_any_order(self, rows: list[int]) -> None:
        dataset, found = numbered(7), numbered(7).select(rows)
        assert found.names == tuple(dataset.names[row] for row in rows)
        assert found.label == tuple(dataset.label[row] for row in rows)
        assert found.extra["note"] == tuple(dataset.extra["note"][row] for row in rows)
        np.testing.assert_array_equal(found.boxes, dataset.boxes[np.array(rows, dtype=int)])
        assert found.notes == dataset.notes

    def test_a_mask_is_no_list_of_rows(self) -> None:
        assert numbered(3).select([True, False, True]).names == ("in/0.jpg", "in/2.jpg")
        assert numbered(3).select([1, 0, 1]).names == ("in/1.jpg", "in/0.jpg", "in/1.jpg")

    @pytest.mark.parametrize("rows", [[True, False], [[1]], [0.5], ["a"]])
    def test_nonsense(self, rows: npt.ArrayLike) -> None:
        with pytest.raises(ValueError, match="mask"):
            numbered(3).select(rows)

    def test_of_split(self) -> None:
        dataset = Dataset("abcd", [BOX] * 4, split=["val", "", "train", "val"])
        assert dataset.of_split("val").names == ("a", "d")
        assert dataset.of_split("").names == ("b",)
        assert len(dataset.of_split("test")) == 0
        with pytest.raises(ConfigError, check=lambda error: error.code == "unknown-split"):
            dataset.of_split("dev")

    def test_boxes_that_nobody_looked_at_are_learned_from_alone(self) -> None:
        sources = ["predicted", "drawn", "predicted", "predicted", "drawn", "accepted"]
        boxes = [*[BOX] * 5, [np.nan] * 4]
        dataset = Dataset(
            "abcdef", boxes, split=["train", "val", "val", "test", "test", "val"], source=sources
        )
        assert dataset.is_predicted.tolist() == [True, False, True, True, False, False]
        names = {split: dataset.of_split(split).names for split in ("train", "val", "test")}
        assert names == {"train": ("a",), "val": ("b", "f"), "test": ("e",)}
        assert "3 images with a box of a model that nobody looked at" in dataset.summary()
        assert "nobody" not in numbered(3).summary()


class TestRead:
    def test_one_row_a_image(self, tmp_path: Path) -> None:
        path = put(tmp_path, "a.jpg,1,2,3,4,cat,train", "in/b.jpg,,,,,,val", "c.jpg,5,6,7,8.5,dog,")
        dataset = Dataset.read(str(path), check="off")
        assert dataset.images == (tmp_path / "a.jpg", tmp_path / "in" / "b.jpg", tmp_path / "c.jpg")
        assert dataset.names == ("a.jpg", "in/b.jpg", "c.jpg")
        np.testing.assert_array_equal(dataset.boxes, [BOX, NONE, (5, 6, 7, 8.5)])
        assert dataset.split == ("train", "val", "")
        assert dataset.label == ("cat", "", "dog")
        assert dataset.where == ("boxes.csv, row 2", "boxes.csv, row 3", "boxes.csv, row 4")
        notes = dataset.notes
        assert (notes.path, notes.format) == (path, "csv")
        assert (notes.images, notes.positives, notes.negatives) == (3, 2, 1)
        assert (notes.reduced, notes.several, notes.duplicates, notes.bad) == (0, (), 0, ())
        assert Dataset.read(path, images=str(tmp_path), check="off").images == dataset.images

    def test_several_boxes(self, tmp_path: Path) -> None:
        path = put(
            tmp_path, "a.jpg,1,2,3,4,cat,", "b.jpg,0,0,5,5,,", "a.jpg,1,2,9,9,dog,val", "a.jpg,1,2,3,5,cat,"
        )
        out = Dataset.read(path, check="off")
        assert out.names == ("b.jpg",)
        assert out.notes.several == ("a.jpg",)
        assert "1 image with several boxes" in out.summary()
        first = Dataset.read(path, keep="first", check="off")
        assert first.names == ("a.jpg", "b.jpg")
        assert (first.label[0], first.split[0]) == ("cat", "val")
        assert first.boxes[0].tolist() == list(BOX)
        assert (first.notes.reduced, first.notes.several) == (1, ())
        largest = Dataset.read(path, keep="largest", check="off")
        assert largest.label[0] == "dog"
        assert largest.boxes[0].tolist() == [1, 2, 9, 9]
        with pytest.raises(ConfigError, check=lambda error: error.code == "unknown-choice"):
            Dataset.read(path, keep="smallest", check="off")  # type: ignore[arg-type]

    def test_duplicates_collapse(self, tmp_path: Path) -> None:
        path = put(tmp_path, "a.jpg,1,2,3,4,cat,", "./a.jpg,1.0,2,3,4,cat,val", "b.jpg,,,,,", "b.jpg,,,,,")
        dataset = Dataset.read(path, check="off")
        assert dataset.names == ("a.jpg", "b.jpg")
        assert dataset.split == ("val", "")
        assert (dataset.notes.duplicates, dataset.notes.reduced, dataset.notes.several) == (2, 0, ())
        assert "2 duplicate rows" in dataset.summary()

    def test_one_box_of_two_labels_is_two_boxes(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, check=lambda error: error.code == "nothing-left"):
            Dataset.read(put(tmp_path, "a.jpg,1,2,3,4,cat,", "a.jpg,1,2,3,4,dog,"), check="off")

    def test_bad_rows_are_refused_or_counted(self, tmp_path: Path) -> None:
        rows = [f"bad{index}.jpg,1,2,x,4,," for index in range(6)]
        path = put(tmp_path, "a.jpg,1,2,3,4,,", *rows, "a.jpg,5,5,5,9,,")
        with pytest.raises(DataError) as error:
            Dataset.read(path, check="off")
        assert error.value.code == "data-errors"
        text = str(error.value)
        for words in ("7 errors", "boxes.csv, row 3: bad0.jpg", "1, 2, x, 4", "and 2 more", "--skip-bad"):
            assert words in text
        assert "row 8" not in text
        dataset = Dataset.read(path, skip_bad=True, check="off")
        assert dataset.names == ("a.jpg",)
        assert len(dataset.notes.bad) == 7
        assert dataset.notes.bad[-1] == "boxes.csv, row 9: a.jpg: x2 <= x1 in the box 5, 5, 5, 9"
        assert "7 rows with errors" in dataset.summary()

    @pytest.mark.parametrize(
        ("rows", "why"),
        [
            (("b.jpg,1,2,3,4,,train", "b.jpg,1,2,3,4,,test"), "in the splits test and train"),
            (("b.jpg,1,2,3,4,,", "b.jpg,,,,,"), "with a box and without one"),
        ],
    )
    def test_contradictions_are_refused_or_counted(
        self, tmp_path: Path, rows: tuple[str, ...], why: str
    ) -> None:
        path = put(tmp_path, "a.jpg,1,2,3,4,,", *rows)
        with pytest.raises(DataError, match=why, check=lambda error: error.code == "data-errors"):
            Dataset.read(path, keep="first", check="off")
        dataset = Dataset.read(path, skip_bad=True, check="off")
        assert dataset.names == ("a.jpg",)
        assert why in dataset.notes.bad[0]

    def test_nothing_left_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, check=lambda error: error.code == "nothing-left"):
            Dataset.read(put(tmp_path), check="off")
        with pytest.raises(DataError, match="row 2", check=lambda error: error.code == "nothing-left"):
            Dataset.read(put(tmp_path, "a.jpg,9,2,3,4,,"), skip_bad=True, check="off")

    def test_from_annotations_keeps_all_columns(self) -> None:
        records = (
            Record(1, "r1", "a", Path("x/a"), BOX, group="g", source="me", extra={"p": "1"}),
            Record(2, "r2", "b", Path("x/b"), BOX, extra={"q": "2"}),
        )
        dataset = Dataset.from_annotations(Annotations(Path("x"), "csv", "words", records), check="off")
        assert dataset.group == ("g", "")
        assert dataset.source == ("me", "")
        assert dict(dataset.extra) == {"p": ("1", ""), "q": ("", "2")}
        assert dataset.notes.convention == "words"


class TestChecks:
    """What `solobox train` refuses, `Dataset.read` refuses."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        for name in ("a.png", "b.png", "c.png"):
            Image.new("RGB", (40, 30), name_color(name)).save(tmp_path / name)
        (tmp_path / "d.png").write_bytes((tmp_path / "c.png").read_bytes()[:-30])
        rows = ["a.png,1,2,30,20,,", "b.png,5,2,30,20,,", "c.png,9,2,99,20,,", "d.png,3,2,30,20,,"]
        return put(tmp_path, *rows, "gone.png,1,2,30,20,,")

    def test_headers_are_checked_by_default(self, path: Path) -> None:
        with pytest.raises(DataError, check=lambda error: error.code == "data-errors") as error:
            Dataset.read(path)
        assert "row 4: c.png" in str(error.value)
        assert "row 6: gone.png" in str(error.value)
        assert "d.png" not in str(error.value)

    def test_rows_at_fault_are_left_out_and_counted(self, path: Path) -> None:
        dataset = Dataset.read(path, skip_bad=True)
        assert dataset.names == ("a.png", "b.png", "d.png")
        assert [text.split(": ")[1] for text in dataset.notes.bad] == ["c.png", "gone.png"]
        assert dataset.notes.images == 3

    def test_the_other_levels(self, path: Path) -> None:
        assert Dataset.read(path, check="pixels", skip_bad=True).names == ("a.png", "b.png")
        for check in ("numbers", "off"):
            assert len(Dataset.read(path, check=check)) == 5
        with pytest.raises(ConfigError, check=lambda error: error.code == "unknown-choice"):
            Dataset.read(path, check="all")  # type: ignore[arg-type]

    def test_errors_that_no_row_is_at_fault_for_cannot_be_skipped(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, check=lambda error: error.code == "data-errors"):
            Dataset.read(put(tmp_path), skip_bad=True)

    def test_a_dataset_can_be_checked_again(self, path: Path) -> None:
        diagnosis = Dataset.read(path, check="off").check()
        assert {(each.code, each.image) for each in diagnosis.errors} == {
            ("box-outside", "c.png"),
            ("unreadable-image", "d.png"),
            ("missing-file", "gone.png"),
        }


def name_color(name: str) -> tuple[int, int, int]:
    return (ord(name[0]), 9, 9)


class TestSequence:
    def test_rows_are_samples(self) -> None:
        dataset = numbered(5)
        samples = list(dataset)
        assert len(samples) == 5
        assert all(isinstance(sample, Sample) for sample in samples)
        first, negative = dataset[0], dataset[-3]
        assert (first.image, first.label, first.group, first.name) == (
            Path("in/0.jpg"),
            "l0",
            "g0",
            "in/0.jpg",
        )
        assert first.box is not None
        assert first.box.tolist() == [0, 0, 1, 5]
        assert negative.box is None
        with pytest.raises(IndexError):
            dataset[5]

    def test_a_slice_is_a_dataset(self) -> None:
        part = numbered(5)[1::2]
        assert isinstance(part, Dataset)
        assert part.names == ("in/1.jpg", "in/3.jpg")


class TestFromArrays:
    def test_images_in_memory(self) -> None:
        array = np.full((30, 40, 3), 7, np.uint8)
        image, other = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")
        dataset = Dataset.from_arrays([array, image, png(other)], [BOX, None, NONE], label=["x", "", ""])
        assert dataset.names == ("image-000001", "image-000002", "image-000003")
        assert dataset.has_box.tolist() == [True, False, False]
        assert dataset[0].image is array
        assert dataset[1].image is image
        assert dataset.notes.path is None
        assert [each.code for each in dataset.check().findings] == ["tiny-box"]
        with pytest.raises(DataError, check=lambda error: error.code == "images-in-memory"):
            dataset.write("never.csv")

    def test_they_are_checked_too(self) -> None:
        images: list[Any] = [
            np.zeros((30, 40, 3), np.uint8),
            np.zeros((30, 40, 4), np.uint8),
            b"no image",
        ]
        with pytest.raises(DataError, check=lambda error: error.code == "data-errors") as error:
            Dataset.from_arrays(images, [(1, 2, 41.9, 20), (1, 2, 30, 20), (1, 2, 30, 20)])
        assert "--skip-bad" not in str(error.value) or "row 2" in str(error.value)
        images = [*images, np.zeros((30, 40, 3), np.uint8)]
        boxes = [(1, 2, 99, 20), (1, 2, 30, 20), (1, 2, 30, 20), (1, 2, 30, 20)]
        dataset = Dataset.from_arrays(images, boxes, skip_bad=True)
        assert dataset.names == ("image-000004",)
        assert len(dataset.notes.bad) == 3

    def test_what_is_no_image_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="a PIL image"):
            Dataset.from_arrays([3.5], [BOX])  # type: ignore[list-item]

    def test_paths_are_written_and_read_back(self, tmp_path: Path) -> None:
        Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
        dataset = Dataset.from_arrays([tmp_path / "a.png"], [(1, 2, 30, 20)], group=[7], split=["val"])
        dataset.write(tmp_path / "out.csv")
        found = Dataset.read(tmp_path / "out.csv")
        assert (found.images, found.group, found.split) == ((tmp_path / "a.png",), ("7",), ("val",))

    def test_lengths(self) -> None:
        with pytest.raises(ValueError, match="1 boxes, not 2"):
            Dataset.from_arrays(["a"], [BOX, BOX])
        with pytest.raises(ValueError, match="1 label, not 0"):
            Dataset.from_arrays(["a"], [BOX], label=[])


class TestFromDataframe:
    """A stand-in with what is used of pandas: `columns` and a column's `tolist`."""

    class Frame(dict[str, "np.ndarray[tuple[int], np.dtype[np.object_]]"]):
        @property
        def columns(self) -> list[str]:
            return list(self)

    def frame(self, **columns: list[object]) -> "TestFromDataframe.Frame":
        return self.Frame({name: np.array(values, dtype=object) for name, values in columns.items()})

    def test_columns(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.png"):
            Image.new("RGB", (40, 30), name_color(name)).save(tmp_path / name)
        frame = self.frame(
            image=["a.png", "b.png"], x1=[1, NAN], y1=[np.int64(2), NAN], x2=[30.5, None], y2=[20, NAN],
            split=["train", None], camera=[3, NAN],
        )  # fmt: skip
        dataset = Dataset.from_dataframe(frame, tmp_path)
        assert dataset.images == (tmp_path / "a.png", tmp_path / "b.png")
        np.testing.assert_array_equal(dataset.boxes, [(1, 2, 30.5, 20), NONE])
        assert dataset.split == ("train", "")
        assert dict(dataset.extra) == {"camera": ("3", "")}

    def test_a_missing_column(self) -> None:
        with pytest.raises(DataError, match="xmin", check=lambda error: error.code == "missing-column"):
            Dataset.from_dataframe(self.frame(image=["a"], xmin=[1], y1=[1], x2=[1], y2=[1]))


def png(image: Image.Image) -> bytes:
    with io.BytesIO() as stream:
        image.save(stream, "PNG")
        return stream.getvalue()


class TestWrite:
    def test_csv_keeps_everything(self, tmp_path: Path) -> None:
        dataset = numbered(5).with_splits(val=0.3, test=0.3)
        dataset = Dataset(
            images=[tmp_path / name for name in dataset.names],
            boxes=dataset.boxes,
            split=dataset.split,
            group=dataset.group,
            label=dataset.label,
            source=["me"] * 5,
            extra=dataset.extra,
            names=dataset.names,
        )
        dataset.write(str(tmp_path / "out.csv"))
        found = Dataset.read(tmp_path / "out.csv", check="off")
        assert found.images == dataset.images
        np.testing.assert_array_equal(found.boxes, dataset.boxes)
        for key in ("split", "group", "label", "source", "names", "extra"):
            assert getattr(found, key) == getattr(dataset, key)

    def test_an_unknown_format(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, check=lambda error: error.code == "unknown-format"):
            numbered(3).write(tmp_path / "out", format="tsv")
        assert list(tmp_path.iterdir()) == []


class TestWords:
    def test_summary(self) -> None:
        assert Dataset(["a"], [BOX]).summary() == "1 image: 1 with a box, 0 without."
        dataset = Dataset("abc", [BOX, NONE, BOX], split=["train", "", "val"], notes=ReadNotes(reduced=2))
        assert dataset.summary() == (
            "3 images: 2 with a box, 1 without; 1 train, 1 val, 1 no split. "
            "One box was kept of each of 2 images with several."
        )
        assert repr(dataset) == f"<Dataset: {dataset.summary()}>"
        assert dataset.counts() == {"train": (1, 0), "val": (1, 0), "no split": (0, 1)}


def test_with_splits_changes_nothing_else() -> None:
    dataset = numbered(40).with_auto_groups()
    found = dataset.with_splits(val=0.3, test=0.2)
    assert set(found.split) == {"train", "val", "test"}
    assert len({(group, split) for group, split in zip(found.group, found.split, strict=True)}) == 20
    for key in ("images", "group", "label", "names", "notes", "extra"):
        assert getattr(found, key) == getattr(dataset, key)
    np.testing.assert_array_equal(found.boxes, dataset.boxes)


@pytest.mark.real
def test_caltech(real_data: Path) -> None:
    path = real_data / "caltech" / "airplane.csv"
    with pytest.raises(
        DataError, match=r"row 119: airplane/image_0118\.jpg", check=lambda error: error.code == "data-errors"
    ):
        Dataset.read(path)
    airplanes = Dataset.read(path, skip_bad=True)
    faces = Dataset.read(real_data / "caltech" / "face.csv")
    assert (len(airplanes), len(airplanes.notes.bad), len(faces)) == (799, 1, 435)
    assert all(image.is_file() for image in faces.paths)
    assert set(faces.label) == {"face"}
    split = airplanes.with_splits()
    assert split.split.count("test") == pytest.approx(80, abs=25)


@pytest.mark.real
@pytest.mark.parametrize("place", ["kangaroo", "kangaroo/annots"])
def test_kangaroo(real_data: Path, place: str) -> None:
    single = Dataset.read(real_data / place)
    assert (len(single), len(single.notes.several)) == (107, 57)
    largest = Dataset.read(real_data / place, keep="largest")
    first = Dataset.read(real_data / place, keep="first")
    assert len(largest) == len(first) == 164
    assert largest.notes.reduced == first.notes.reduced == 57
    sizes = [np.prod(each.boxes[:, 2:] - each.boxes[:, :2], axis=1) for each in (largest, first)]
    assert (sizes[0] >= sizes[1]).all()
    assert (sizes[0] > sizes[1]).any()


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "out"), [("csv", "a.csv"), ("article", "a.csv"), ("coco", "a.json"), ("voc", "a"), ("yolo", "a")]
)
def test_kangaroo_in_every_format(real_data: Path, tmp_path: Path, name: str, out: str) -> None:
    dataset = Dataset.read(real_data / "kangaroo").select(range(30)).with_splits()
    dataset.write(tmp_path / out, name)
    found = Dataset.read(tmp_path / out)
    assert found.notes.format == name
    wanted = {image.resolve(): row for row, image in enumerate(dataset.paths)}
    rows = [wanted[image.resolve()] for image in found.paths]
    assert sorted(rows) == list(range(30))
    np.testing.assert_allclose(found.boxes, dataset.boxes[rows], rtol=0, atol=1e-6)
    if name != "article":
        assert found.split == tuple(dataset.split[row] for row in rows)
        assert found.label == tuple(dataset.label[row] for row in rows)


def test_paths_in_python_are_not_searched_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("deep/below/1.png", "2.png", "3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 256, (60, 80, 3), np.uint8)).save(
            tmp_path / name
        )
    monkeypatch.chdir(tmp_path)
    boxes = [[4, 4, 40, 40]] * 3
    assert len(Dataset.from_arrays(["deep/below/1.png", "2.png", "3.png"], boxes)) == 3
    for name in ("1.png", "/gone/2.png", "gone/1.png"):
        with pytest.raises(DataError) as raised:
            Dataset.from_arrays([name, "2.png", "3.png"], boxes)
        assert "there is no file" in str(raised.value)
