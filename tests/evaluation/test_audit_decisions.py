import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from error_codes import has_code
from solobox.data.dataset import Dataset
from solobox.errors import DataError
from solobox.evaluation.audit.decisions import (
    AUDIT_COLUMNS,
    FORMAT,
    LEFT_OUT_COLUMNS,
    Choice,
    apply_decisions,
    drop_flagged,
    read_decisions,
    write_audit,
)
from solobox.evaluation.audit.label_audit import audit_labels
from solobox.predict.prediction import Prediction

MODEL = [20.0, 15.0, 50.0, 45.0]
WRONG = [60.0, 50.0, 75.0, 58.0]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Twenty rows of a CSV with an extra column; the label of the fourth is misplaced, the last has none."""
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


def test_decisions_make_a_corrected_copy_and_a_list_of_changes(dataset: Dataset, tmp_path: Path) -> None:
    before = (tmp_path / "data.csv").read_bytes()
    path = saved(
        tmp_path,
        entry(dataset, 3, "model"),
        entry(dataset, 5, "drop"),
        entry(dataset, 6, "accept"),
        entry(dataset, 8, "empty"),
        entry(dataset, 19, "model", kind="missing"),
    )
    done = apply_decisions(dataset, read_decisions(path), tmp_path / "out" / "clean.csv", protected=[path])
    assert (done.n_kept, done.n_dropped, done.n_changed) == (19, 1, 3)
    clean = Dataset.read(tmp_path / "out" / "clean.csv", check="off")
    assert [image.resolve() for image in clean.paths] == [
        image.resolve() for row, image in enumerate(dataset.paths) if row != 5
    ]
    assert clean.extra["note"] == tuple(f"n{row}" for row in range(20) if row != 5)
    assert set(clean.split) == {"train"}
    assert clean.boxes[3].tolist() == clean.boxes[18].tolist() == MODEL
    assert np.isnan(clean.boxes[7]).all()
    untouched = [row for row in range(20) if row not in (3, 5, 8, 19)]
    np.testing.assert_array_equal(
        clean.boxes[[r if r < 5 else r - 1 for r in untouched]], dataset.boxes[untouched]
    )
    changes = list(csv.DictReader((tmp_path / "out" / "clean.left-out.csv").read_text().splitlines()))
    assert tuple(changes[0]) == LEFT_OUT_COLUMNS
    assert [(line["image"], line["done"]) for line in changes] == [
        ("images/3.jpg", "changed"),
        ("images/5.jpg", "left out"),
        ("images/8.jpg", "changed"),
        ("images/19.jpg", "changed"),
    ]
    assert changes[0]["box_before"] == "60, 50, 75, 58"
    assert changes[0]["box_after"] == "20, 15, 50, 45"
    assert changes[2]["box_after"] == changes[3]["box_before"] == "none"
    assert all("by a person" in line["why"] for line in changes)
    assert (tmp_path / "data.csv").read_bytes() == before


def test_a_corrected_copy_reads_back_with_and_without_images(tmp_path: Path) -> None:
    images = tmp_path / "photos"
    names = [f"{row % 3}/{row}.jpg" for row in range(40)]
    (tmp_path / "d.csv").write_text(
        "\n".join(["image,x1,y1,x2,y2", *[f"{name},1,2,30,40" for name in names]]) + "\n"
    )
    for name in names:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(name.encode())  # each another image
    dataset = Dataset.read(tmp_path / "d.csv", images, check="off")
    path = saved(tmp_path, entry(dataset, 7, "empty"), entry(dataset, 9, "model"))
    done = apply_decisions(dataset, read_decisions(path), tmp_path / "out" / "clean.csv")
    before = dataset.with_splits(0.25, 0.25).split
    for folder in (images, None):
        again = Dataset.read(done.out, folder, check="off")
        assert again.names == dataset.names
        assert [path.resolve() for path in again.paths] == list(dataset.paths)
        # The image that lost its box is no positive any more, which moves no other one.
        assert again.with_splits(0.25, 0.25).split == before


def test_a_predicted_box_becomes_a_label_of_two_decimals(dataset: Dataset, tmp_path: Path) -> None:
    """Not 20.126000761985779, which no other column has; a box that has no area then keeps its decimals."""
    tiny = [20.001, 15.001, 20.002, 15.002]
    path = saved(
        tmp_path,
        entry(dataset, 3, "model", model=[20.126000761985779, 15.0, 1 / 3 + 50, 45.999]),
        entry(dataset, 4, "model", model=tiny),
    )
    done = apply_decisions(dataset, read_decisions(path), tmp_path / "clean.csv")
    lines = (tmp_path / "clean.csv").read_text().splitlines()
    assert lines[4].startswith("images/3.jpg,20.13,15,50.33,46,")
    clean = Dataset.read(done.out, check="off")
    assert clean.boxes[4].tolist() == tiny
    changes = list(csv.DictReader(done.left_out.read_text().splitlines()))
    assert [line["box_after"] for line in changes] == [
        "20.13, 15, 50.33, 46",
        "20.001, 15.001, 20.002, 15.002",
    ]


def test_a_decision_may_name_its_label_rounded(tmp_path: Path) -> None:
    """Such as one made from the CSV of an audit; what is further off is another label."""
    (tmp_path / "d.csv").write_text("image,x1,y1,x2,y2\na.jpg,1.23456,2.34567,30.98765,40.5\nb.jpg,1,2,3,4\n")
    dataset = Dataset.read(tmp_path / "d.csv", check="off")
    decision = {"image": "a.jpg", "decision": "drop", "label": [1.23, 2.35, 30.99, 40.5], "model": None}
    done = apply_decisions(dataset, read_decisions(saved(tmp_path, decision)), tmp_path / "clean.csv")
    (change,) = csv.DictReader(done.left_out.read_text().splitlines())
    assert change["box_before"] == "1.23456, 2.34567, 30.98765, 40.5"
    decision["label"] = [1.22, 2.35, 30.99, 40.5]
    with pytest.raises(DataError) as error:
        apply_decisions(dataset, read_decisions(saved(tmp_path, decision)), tmp_path / "other.csv")
    assert error.value.code == "decision-outdated"


def test_the_rule_drops_flagged_images(dataset: Dataset, tmp_path: Path) -> None:
    predictions = [Prediction("p", np.array(MODEL), (80, 60), np.ones(4)) for _ in range(20)]
    found = audit_labels(dataset, predictions)
    decisions = drop_flagged(found, dataset)
    assert [(decision.image, decision.choice) for decision in decisions] == [("images/3.jpg", Choice.DROP)]
    done = apply_decisions(dataset, decisions, tmp_path / "clean.csv")
    assert (done.n_kept, done.n_dropped, done.n_changed) == (19, 1, 0)
    (line,) = csv.DictReader(done.left_out.read_text().splitlines())
    assert line["kind"] == "wrong place"
    assert line["why"] == found.flagged[0].why


def test_the_audit_lists_every_label_worst_first(dataset: Dataset, tmp_path: Path) -> None:
    predictions = [Prediction("p", np.array(MODEL), (80, 60), np.ones(4)) for _ in range(19)]
    found = audit_labels(dataset, [*predictions, Prediction("p", error="gone")])
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
    "change",
    [
        {"decision": "keep"},
        {"decision": None},
        {"image": ""},
        {"image": 7},
        {"image": "images/0.jpg"},
        {"label": [1, 2, 3]},
        {"label": [1, 2, 3, True]},
        {"label": "1,2,3,4"},
        {"model": [9, 2, 3, 4]},
        {"model": [float("nan"), 2, 3, 4]},
        {"model": None},
    ],
)
def test_an_invalid_entry_is_named(dataset: Dataset, tmp_path: Path, change: dict[str, Any]) -> None:
    path = saved(tmp_path, entry(dataset, 0, "drop"), entry(dataset, 3, "model") | change)
    with pytest.raises(DataError, match="entry 2") as error:
        read_decisions(path)
    assert error.value.code == "decision-invalid"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "decisions-unreadable"),
        ("[]", "decisions-unreadable"),
        ('{"format": "something", "decisions": []}', "decisions-unreadable"),
        ('{"format": "solobox audit decisions 1", "decisions": {}}', "decisions-unreadable"),
        ('{"format": "solobox audit decisions 1", "decisions": [3]}', "decision-invalid"),
    ],
)
def test_a_file_without_decisions_is_refused(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(DataError, match=r"d\.json") as error:
        read_decisions(tmp_path / "d.json")
    assert error.value.code == code


def test_a_missing_file_of_decisions_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json") as error:
        read_decisions(tmp_path / "none.json")
    assert error.value.code == "decisions-unreadable"


@pytest.mark.parametrize(
    ("change", "image"),
    [
        ({"image": "images/99.jpg"}, r"images/99\.jpg"),
        ({"label": [1, 2, 3, 4]}, r"images/3\.jpg.*1, 2, 3, 4.*60, 50"),
        ({"label": None}, r"images/3\.jpg"),
    ],
)
def test_decisions_about_other_labels_are_refused(
    dataset: Dataset, tmp_path: Path, change: dict[str, Any], image: str
) -> None:
    path = saved(tmp_path, entry(dataset, 3, "drop") | change)
    with pytest.raises(DataError, match=image) as error:
        apply_decisions(dataset, read_decisions(path), tmp_path / "clean.csv")
    assert error.value.code == "decision-outdated"
    assert not list(tmp_path.glob("clean*"))


def test_input_files_are_never_overwritten(dataset: Dataset, tmp_path: Path) -> None:
    path = saved(tmp_path, entry(dataset, 3, "drop"))
    decisions = read_decisions(path)
    (tmp_path / "link.csv").symlink_to(tmp_path / "data.csv")
    for out, code in (
        (tmp_path / "data.csv", "output-is-input"),
        (tmp_path / "link.csv", "output-is-input"),
        (tmp_path / "clean.txt", "not-csv"),
    ):
        with pytest.raises(DataError) as error:
            apply_decisions(dataset, decisions, out)
        assert error.value.code == code
    (tmp_path / "my.left-out.csv").write_bytes((tmp_path / "data.csv").read_bytes())
    other = Dataset.read(tmp_path / "my.left-out.csv", check="off")
    with pytest.raises(DataError) as error:
        apply_decisions(other, decisions, tmp_path / "my.csv")
    assert error.value.code == "output-is-input"
    for name in ("a.csv", "x.csv"):
        (tmp_path / name).write_text("")
    named = Dataset([tmp_path / "a.csv"], [MODEL])
    with pytest.raises(DataError) as error:
        apply_decisions(named, [], tmp_path / "a.csv")
    assert error.value.code == "output-is-input"
    with pytest.raises(DataError) as error:
        apply_decisions(dataset, decisions, path.with_name("x.csv"), protected=[tmp_path / "x.csv"])
    assert error.value.code == "output-is-input"


def test_dropping_every_image_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = saved(tmp_path, *(entry(dataset, row, "drop") for row in range(20)))
    with pytest.raises(DataError) as error:
        apply_decisions(dataset, read_decisions(path), tmp_path / "clean.csv")
    assert error.value.code == "nothing-left"


def test_what_cannot_be_written_leaves_nothing_behind(dataset: Dataset, tmp_path: Path) -> None:
    path = saved(tmp_path, entry(dataset, 3, "drop"))
    (tmp_path / "clean.csv").mkdir()
    with pytest.raises(DataError, check=has_code("output-conflict")):
        apply_decisions(dataset, read_decisions(path), tmp_path / "clean.csv")
    assert not list(tmp_path.glob("*left-out*"))
