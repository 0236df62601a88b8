import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solobox.data.dataset import Dataset
from solobox.errors import DataError
from solobox.evaluation.audit.decisions import (
    AUDIT_COLUMNS,
    FORMAT,
    STORY_COLUMNS,
    Choice,
    apply,
    by_rule,
    read_decisions,
    write_audit,
)
from solobox.evaluation.audit.findings import audit
from solobox.predict.prediction import Prediction

MODEL = [20.0, 15.0, 50.0, 45.0]
WRONG = [60.0, 50.0, 75.0, 58.0]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Twenty rows of a CSV with a column of its own; the fourth's label is elsewhere, the last one has none."""
    rng = np.random.default_rng(1)
    lines = ["image,x1,y1,x2,y2,split,note"]
    for row in range(20):
        box = WRONG if row == 3 else (np.array(MODEL) + rng.normal(0, 0.5, 4)).round(2).tolist()
        cells = ",".join(map(str, box)) if row < 19 else ",,,"
        lines.append(f"images/{row}.jpg,{cells},train,n{row}")
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    return Dataset.read(tmp_path / "data.csv", check="off")


def entry(dataset: Dataset, row: int, decision: str, **other: Any) -> dict[str, Any]:
    box = dataset.boxes[row]
    label = None if np.isnan(box).any() else box.tolist()
    return {
        "image": dataset.names[row],
        "decision": decision,
        "label": label,
        "model": MODEL,
        "kind": "shifted",
    } | other


def saved(folder: Path, *entries: Any, **other: Any) -> Path:
    path = folder / "decisions.json"
    path.write_text(json.dumps({"format": FORMAT, "data": "data.csv", "decisions": list(entries)} | other))
    return path


def test_decisions_make_a_new_csv_and_its_story(dataset: Dataset, tmp_path: Path) -> None:
    before = (tmp_path / "data.csv").read_bytes()
    path = saved(
        tmp_path,
        entry(dataset, 3, "model"),
        entry(dataset, 5, "drop"),
        entry(dataset, 6, "accept"),
        entry(dataset, 8, "empty"),
        entry(dataset, 19, "model", kind="missing"),
    )
    done = apply(dataset, read_decisions(path), tmp_path / "out" / "clean.csv", never=[path])
    assert (done.n_kept, done.n_dropped, done.n_changed) == (19, 1, 3)
    clean = Dataset.read(tmp_path / "out" / "clean.csv", check="off")
    assert [image.resolve() for image in clean.images] == [
        image.resolve() for row, image in enumerate(dataset.images) if row != 5
    ]
    assert clean.extra["note"] == tuple(f"n{row}" for row in range(20) if row != 5)
    assert set(clean.split) == {"train"}
    assert clean.boxes[3].tolist() == clean.boxes[18].tolist() == MODEL
    assert np.isnan(clean.boxes[7]).all()
    untouched = [row for row in range(20) if row not in (3, 5, 8, 19)]
    np.testing.assert_array_equal(
        clean.boxes[[r if r < 5 else r - 1 for r in untouched]], dataset.boxes[untouched]
    )
    story = list(csv.DictReader((tmp_path / "out" / "clean.left-out.csv").read_text().splitlines()))
    assert tuple(story[0]) == STORY_COLUMNS
    assert [(line["image"], line["done"]) for line in story] == [
        ("images/3.jpg", "changed"),
        ("images/5.jpg", "left out"),
        ("images/8.jpg", "changed"),
        ("images/19.jpg", "changed"),
    ]
    assert story[0]["box_before"] == "60, 50, 75, 58"
    assert story[0]["box_after"] == "20, 15, 50, 45"
    assert story[2]["box_after"] == story[3]["box_before"] == "none"
    assert all("decided by a person" in line["why"] for line in story)
    assert (tmp_path / "data.csv").read_bytes() == before


def test_the_rule_leaves_flagged_labels_out(dataset: Dataset, tmp_path: Path) -> None:
    predictions = [Prediction("p", np.array(MODEL), (80, 60), np.ones(4)) for _ in range(20)]
    found = audit(dataset, predictions)
    decisions = by_rule(found, dataset)
    assert [(decision.image, decision.choice) for decision in decisions] == [("images/3.jpg", Choice.DROP)]
    done = apply(dataset, decisions, tmp_path / "clean.csv")
    assert (done.n_kept, done.n_dropped, done.n_changed) == (19, 1, 0)
    (line,) = csv.DictReader(done.story.read_text().splitlines())
    assert line["kind"] == "wrong place"
    assert "shares nothing" in line["why"]


def test_the_audit_lists_every_label_worst_first(dataset: Dataset, tmp_path: Path) -> None:
    predictions = [Prediction("p", np.array(MODEL), (80, 60), np.ones(4)) for _ in range(19)]
    found = audit(dataset, [*predictions, Prediction("p", error="gone")])
    write_audit(tmp_path / "audit.csv", found, dataset)
    rows = list(csv.DictReader((tmp_path / "audit.csv").read_text().splitlines()))
    assert tuple(rows[0]) == AUDIT_COLUMNS
    assert len(rows) == 20
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 21)]
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert [row["kind"] for row in rows[:3]] == ["image unreadable", "wrong place", "agrees"]
    assert [row["flagged"] for row in rows[:3]] == ["yes", "yes", "no"]
    assert [rows[1][name] for name in ("image", "x1", "y1", "x2", "y2")] == [
        "images/3.jpg",
        "60",
        "50",
        "75",
        "58",
    ]
    assert [rows[1][f"model_{name}"] for name in ("x1", "y1", "x2", "y2")] == ["20", "15", "50", "45"]
    assert rows[1]["iou"] == "0.0000"
    assert [rows[0][name] for name in ("x1", "model_x1", "iou")] == ["", "", ""]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"decision": "keep"},
            r"entry 2 \(images/3.jpg\): the decision 'keep' is none of accept, model, drop",
        ),
        ({"decision": None}, "the decision None"),
        ({"image": ""}, "entry 2.*names no image"),
        ({"image": 7}, "entry 2: names no image"),
        ({"image": "images/0.jpg"}, r"entry 2 \(images/0.jpg\): this image was decided on already"),
        ({"label": [1, 2, 3]}, r"entry 2 \(images/3.jpg\): label is four numbers"),
        ({"label": [1, 2, 3, True]}, "label is four numbers"),
        ({"label": "1,2,3,4"}, "label is four numbers"),
        ({"model": [9, 2, 3, 4]}, "model is four numbers x1, y1, x2, y2 with x1 < x2"),
        ({"model": [float("nan"), 2, 3, 4]}, "model is four numbers"),
        ({"model": None}, "takes the model's box, and there is none"),
    ],
)
def test_a_bad_entry_is_named(dataset: Dataset, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = saved(tmp_path, entry(dataset, 0, "drop"), entry(dataset, 3, "model") | change)
    with pytest.raises(DataError, match=says):
        read_decisions(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ("[]", "is no file of decisions"),
        ('{"format": "something", "decisions": []}', "is no file of decisions"),
        ('{"format": "solobox audit decisions 1", "decisions": {}}', "is no file of decisions"),
        ('{"format": "solobox audit decisions 1", "decisions": [3]}', "entry 1: names no image"),
    ],
)
def test_what_is_no_file_of_decisions_is_said(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(DataError, match=says):
        read_decisions(tmp_path / "d.json")
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        read_decisions(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": "images/99.jpg"}, r"decision 1 \(images/99.jpg\): the data lists no such image"),
        (
            {"label": [1, 2, 3, 4]},
            r"decision 1 \(images/3.jpg\): was about the label 1, 2, 3, 4, which is 60, 50",
        ),
        ({"label": None}, "was about the label none"),
    ],
)
def test_decisions_about_other_data_are_refused(
    dataset: Dataset, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = saved(tmp_path, entry(dataset, 3, "drop") | change)
    with pytest.raises(DataError, match=says):
        apply(dataset, read_decisions(path), tmp_path / "clean.csv")
    assert not list(tmp_path.glob("clean*"))


def test_files_that_are_read_are_never_replaced(dataset: Dataset, tmp_path: Path) -> None:
    path = saved(tmp_path, entry(dataset, 3, "drop"))
    decisions = read_decisions(path)
    (tmp_path / "link.csv").symlink_to(tmp_path / "data.csv")
    for out, says in (
        (tmp_path / "data.csv", "is one of the files that are read"),
        (tmp_path / "link.csv", "is one of the files that are read"),
        (tmp_path / "clean.txt", "ends in .csv"),
    ):
        with pytest.raises(DataError, match=says):
            apply(dataset, decisions, out)
    (tmp_path / "my.left-out.csv").write_bytes((tmp_path / "data.csv").read_bytes())
    other = Dataset.read(tmp_path / "my.left-out.csv", check="off")
    with pytest.raises(DataError, match="is one of the files that are read"):
        apply(other, decisions, tmp_path / "my.csv")
    named = Dataset([tmp_path / "a.csv"], [MODEL])
    with pytest.raises(DataError, match="is one of the images"):
        apply(named, [], tmp_path / "a.csv")
    with pytest.raises(DataError, match="is one of the files that are read"):
        apply(dataset, decisions, path.with_name("x.csv"), never=[tmp_path / "x.csv"])


def test_nothing_left_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = saved(tmp_path, *(entry(dataset, row, "drop") for row in range(20)))
    with pytest.raises(DataError, match="nothing would be left of 20 images"):
        apply(dataset, read_decisions(path), tmp_path / "clean.csv")


def test_what_cannot_be_written_leaves_nothing_behind(dataset: Dataset, tmp_path: Path) -> None:
    path = saved(tmp_path, entry(dataset, 3, "drop"))
    (tmp_path / "clean.csv").mkdir()
    with pytest.raises(DataError, match=r"clean\.csv: cannot be written"):
        apply(dataset, read_decisions(path), tmp_path / "clean.csv")
    assert not list(tmp_path.glob("*left-out*"))
