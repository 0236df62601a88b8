import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_rows import made_up

from solobox.boxes import Floats
from solobox.errors import ConfigError, DataError
from solobox.predict import writers
from solobox.predict.prediction import Prediction
from solobox.predict.writers import FORMATS, Columns, ImageIds, check_format
from solobox.utils.text import unescape_cell

ALL = Columns("both", presence=True, familiarity=True)
FOUND = [
    Prediction("a, with a comma.jpg", np.array([1.0, 2.5, 30.125, 40.0]), (50, 60)),
    Prediction("b.jpg", error='broken "header"'),
]


def write(path: Path, predictions: list[Prediction], columns: Columns | None = None, **more: Any) -> None:
    assert list(writers.write(path, iter(predictions), columns, **more)) == predictions


def program(code: str, path: Path) -> str:
    """What a fresh process prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_row_for_each_prediction_and_each_is_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    write(path, FOUND)
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == Columns().names
    assert rows[1] == ["a, with a comma.jpg", "1.00", "2.50", "30.12", "40.00", ""]
    assert rows[2] == ["b.jpg", "", "", "", "", 'broken "header"']


@pytest.mark.parametrize("ending", FORMATS)
def test_a_run_that_breaks_off_leaves_the_old_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"boxes{ending}"
    path.write_text("old")

    def breaking() -> Iterator[Prediction]:
        yield FOUND[0]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        list(writers.write(path, breaking()))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["boxes.txt", "boxes", "boxes.csv.gz", ".csv"])
def test_an_unknown_ending_is_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.csv, \.jsonl, \.parquet, \.json") as error:
        check_format(tmp_path / name)
    assert error.value.code == "unknown-format"


def test_endings_are_known_in_any_case(tmp_path: Path) -> None:
    write(tmp_path / "BOXES.CSV", FOUND)
    assert (tmp_path / "BOXES.CSV").read_text().startswith("image,x1")


def test_parquet_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"\[parquet\] extra") as error:
        list(writers.write(tmp_path / "boxes.parquet", iter(FOUND)))
    assert error.value.code == "missing-package"
    assert not list(tmp_path.iterdir())


def test_json_lines_hold_numbers_and_null(tmp_path: Path) -> None:
    path = tmp_path / "boxes.jsonl"
    write(path, FOUND)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {
        "image": "a, with a comma.jpg", "width": 50, "height": 60,
        "x1": 1.0, "y1": 2.5, "x2": 30.12, "y2": 40.0, "error": None,
    }  # fmt: skip
    assert second == {
        "image": "b.jpg", "width": None, "height": None,
        "x1": None, "y1": None, "x2": None, "y2": None, "error": 'broken "header"',
    }  # fmt: skip


# What is written reads back -------------------------------------------------------------------------

# Whatever a file system takes: line ends, quotes, commas, letters of all scripts.
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=12)
errors = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
pixels = st.floats(0, 100_000) | st.just(-0.0)


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    name = draw(names)
    if draw(st.booleans()):
        return Prediction(name, error=draw(errors))

    def four() -> Floats:
        return np.array(draw(st.tuples(pixels, pixels, pixels, pixels)))

    size = draw(st.tuples(st.integers(1, 100_000), st.integers(1, 100_000)))
    unknown = st.just(np.nan)
    shares = draw(st.tuples(st.floats(0, 1) | unknown, st.floats(0, 1) | unknown))
    found = Prediction(name, four(), size, four(), four(), four(), *shares)
    return draw(st.sampled_from([found, found.without_object()]))


columns = st.builds(Columns, st.sampled_from(["none", "both", "outer"]), st.booleans(), st.booleans())


def expected(prediction: Prediction, kinds: Columns) -> dict[str, object]:
    """The row, by other means than the writers'."""
    between = {edge: prediction.box[i] for i, edge in enumerate(("x1", "y1", "x2", "y2"))}
    for i, edge in enumerate(("x1", "y1", "x2", "y2")):
        if kinds.margins == "both":
            between |= {f"{edge}_lower": prediction.lower[i], f"{edge}_upper": prediction.upper[i]}
        elif kinds.margins == "outer":
            between[f"{edge}_outer"] = prediction.outer[i]
    row: dict[str, object] = {
        name: None if np.isnan(v) else round(float(v), 2) for name, v in between.items()
    }
    for name in ("presence", "familiarity"):
        if getattr(kinds, name):
            value = getattr(prediction, name)
            row[name] = None if np.isnan(value) else round(value, 4)
    width, height = (None, None) if prediction.error else prediction.size
    image = {"image": prediction.image, "width": width, "height": height}
    return {**image, **row, "error": prediction.error or None}


def read_csv(path: Path) -> list[dict[str, object]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    texts = ("image", "error")
    return [
        {k: unescape_cell(v) if k in texts else float(v) if v else None for k, v in row.items()}
        for row in rows
    ]


def read_parquet(path: Path) -> list[dict[str, object]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return rows


@settings(deadline=None, max_examples=60)
@given(st.lists(predictions(), max_size=6), columns)
def test_rows_read_back_the_same_from_every_kind_of_file(found: list[Prediction], kinds: Columns) -> None:
    wanted = [expected(prediction, kinds) for prediction in found]
    with tempfile.TemporaryDirectory() as folder:
        paths = {ending: Path(folder) / f"boxes{ending}" for ending in FORMATS}
        for path in paths.values():
            write(path, found, kinds)
        text = paths[".jsonl"].read_text(encoding="utf-8")
        assert "-0.0" not in text
        lines = text.split("\n")
        assert lines.pop() == ""
        assert [json.loads(line) for line in lines] == wanted
        assert [list(json.loads(line)) for line in lines] == [list(row) for row in wanted]
        assert read_parquet(paths[".parquet"]) == wanted
        plain = [
            {key: value for key, value in row.items() if key not in ("width", "height")} for row in wanted
        ]
        assert read_csv(paths[".csv"]) == [row | {"error": row["error"] or ""} for row in plain]
        results = json.loads(paths[".json"].read_text(encoding="utf-8"))
        with_box = [(p, row) for p, row in zip(found, wanted, strict=True) if row["x1"] is not None]
        assert len(results) == len(with_box)
        for entry, (prediction, row) in zip(results, with_box, strict=True):
            x, y, width, height = entry["bbox"]
            assert [x, y] == [row["x1"], row["y1"]]
            assert [x + width, y + height] == pytest.approx([row["x2"], row["y2"]], abs=0.006)
            presence = prediction.presence
            score = 1.0 if np.isnan(presence) else round(presence, 4)
            assert entry == {
                "image_id": row["image"],
                "category_id": 1,
                "bbox": entry["bbox"],
                "score": score,
            }


def test_parquet_is_written_in_row_groups_and_says_its_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(writers, "ROW_GROUP", 4)
    path = tmp_path / "boxes.parquet"
    write(path, [made_up(f"{n}.jpg") for n in range(10)], ALL)
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [4, 4, 2]
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types["image"] == types["error"] == "string"
    assert types["width"] == types["height"] == "int32"
    assert {types[name] for name in ALL.numbers} == {"double"}


# What the disk refuses ------------------------------------------------------------------------------

FULL = """
import resource, sys
from pathlib import Path
from prediction_rows import made_up
from solobox.errors import DataError
from solobox.predict.writers import write
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    for _ in write(Path(sys.argv[1]), (made_up(f"{n}.jpg") for n in range(40_000))):
        pass
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("ending", FORMATS)
def test_a_disk_that_is_full_is_an_error_and_leaves_the_old_file(ending: str, tmp_path: Path) -> None:
    """The limit of the process's files stands for the disk's end."""
    path = tmp_path / f"boxes{ending}"
    path.write_text("old")
    assert program(FULL, path).startswith(f"{path}: cannot be written: File too large")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_name_that_is_no_utf8_is_an_error(tmp_path: Path) -> None:
    for ending in (".csv", ".jsonl", ".parquet"):
        with pytest.raises(DataError, match="cannot be written as UTF-8"):
            write(tmp_path / f"boxes{ending}", [Prediction(os.fsdecode(b"\xff.jpg"), error="lost")])
    assert not list(tmp_path.iterdir())


# COCO's images --------------------------------------------------------------------------------------


def annotations(path: Path, files: list[str], categories: list[int]) -> Path:
    images = [{"id": 7 * number, "file_name": name} for number, name in enumerate(files)]
    content = {
        "images": images,
        "annotations": [],
        "categories": [{"id": i, "name": f"c{i}"} for i in categories],
    }
    path.write_text(json.dumps(content))
    return path


def test_results_name_the_images_by_their_ids_where_these_are_known(tmp_path: Path) -> None:
    coco = annotations(tmp_path / "a.json", ["train/1.jpg", "val/1.jpg", "1.jpg", "2.jpg"], [5])
    images = ["/data/val/1.jpg", "2.jpg", "elsewhere/1.jpg", "broken/train/1.jpg"]
    ids = ImageIds.read(coco, images)
    assert [ids.of[image] for image in images] == [7, 21, 14, 0]
    write(tmp_path / "out.json", [made_up(image) for image in images], ids=ids)
    results = json.loads((tmp_path / "out.json").read_text())
    assert [(one["image_id"], one["category_id"]) for one in results] == [(7, 5), (21, 5), (14, 5)]


def test_of_several_categories_the_first_is_taken(tmp_path: Path) -> None:
    ids = ImageIds.read(annotations(tmp_path / "a.json", ["1.jpg"], [9, 4]), ["1.jpg"])
    assert (ids.category, ids.categories) == (4, 2)


@pytest.mark.parametrize(
    ("images", "code"),
    [
        (["x/3.jpg"], "coco-no-such-image"),
        (["1.jpg", "x/1.jpg"], "coco-same-image"),
        (["2.jpg"], "coco-no-such-image"),
    ],
)
def test_images_that_are_not_one_image_each_are_errors(tmp_path: Path, images: list[str], code: str) -> None:
    coco = annotations(tmp_path / "a.json", ["1.jpg", "2.jpg", "2.jpg"], [1])
    with pytest.raises(DataError) as error:
        ImageIds.read(coco, images)
    assert error.value.code == code
    assert images[-1] in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": [{"id": 1}]}', '{"images": [{"id": null, "file_name": "a"}]}']
)
def test_what_is_no_coco_json_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    for name, code in (("a.json", "coco-damaged"), ("b.json", "file-unreadable")):
        with pytest.raises(DataError) as error:
            ImageIds.read(tmp_path / name, ["1.jpg"])
        assert error.value.code == code


GROWTH = """
import resource, sys
from pathlib import Path
from prediction_rows import made_up
from solobox.predict import writers
from solobox.predict.writers import Columns, write
writers.ROW_GROUP = 1000
one = made_up("a.jpg")
def grown(count):
    for _ in write(Path(sys.argv[1]), (one for _ in range(count)), Columns("both", True, True)):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few, many = grown(2_000), grown(40_000)
print((many - few) / 1024)
"""


@pytest.mark.parametrize("ending", FORMATS)
def test_memory_does_not_grow_with_the_rows(ending: str, tmp_path: Path) -> None:
    """Rows in memory would take some 60 MB."""
    done = program(GROWTH, tmp_path / f"boxes{ending}")
    assert float(done) < 20
