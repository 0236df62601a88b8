import csv
import hashlib
import json
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from command_process import solobox, solobox_here

from solobox import Dataset, synthetic
from solobox.annotation.events import Answer
from solobox.annotation.server import AnnotationServer
from solobox.boxes import iou
from solobox.evaluation.audit.label_audit import Audit, audit_labels
from solobox.predict.prediction import Prediction

SMALL = ["--size", "64", "--crops", "2", "--width", "16", "--bins", "8", "--batch", "8", "--folds", "2"]


def digest(folder: Path) -> str:
    """Of all files below, their names and contents."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic images, one of them with a label in the opposite corner."""
    folder = tmp_path_factory.mktemp("drawn")
    dataset = synthetic.write(folder, 48, seed=9, size=(96, 72))
    boxes = dataset.boxes.copy()
    x, y = (boxes[7, :2] + boxes[7, 2:]) / 2
    left, top = (0 if x > 48 else 76), (0 if y > 36 else 56)
    boxes[7] = (left, top, left + 20, top + 16)
    assert iou(boxes[7], dataset.boxes[7]) == 0
    Dataset(dataset.images, boxes, names=dataset.names).write(folder / "annotations.csv")
    return folder


@pytest.fixture(scope="module")
def audited(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that an audit of these images writes."""
    out = tmp_path_factory.mktemp("audited")
    before = digest(drawn)
    done = solobox(
        "audit", drawn / "annotations.csv", "-o", out / "audit.csv", "--report", out / "audit.html", "--fix",
        out / "clean.csv", *SMALL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert digest(drawn) == before
    assert "labels to review" in done.stdout
    assert "of 48 labels flagged" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.csv",
        "audit.html",
        "clean.csv",
        "clean.left-out.csv",
    ]
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_misplaced_label_ranks_high(audited: Path, drawn: Path) -> None:
    rows = rows_of(audited / "audit.csv")
    assert len(rows) == 48
    wrong = Dataset.read(drawn / "annotations.csv").names[7]
    rank = next(int(row["rank"]) for row in rows if row["image"] == wrong)
    assert rank <= 5  # a tiny model, trained on the other half of 48 images
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_without_decisions_flagged_images_are_left_out(audited: Path) -> None:
    rows = rows_of(audited / "audit.csv")
    flagged = {row["image"] for row in rows if row["flagged"] == "yes"}
    assert {row["image"] for row in rows_of(audited / "clean.left-out.csv")} == flagged
    clean = Dataset.read(audited / "clean.csv")
    assert len(clean) == 48 - len(flagged)
    assert all(image.is_file() for image in clean.paths)


def test_the_page_shows_the_worst_labels(audited: Path, drawn: Path) -> None:
    text = (audited / "audit.html").read_text()
    assert text.startswith("<!doctype html>")
    assert Dataset.read(drawn / "annotations.csv").names[7] in text
    assert "Label audit of annotations.csv" in text


def decisions(audited: Path, folder: Path, **change: object) -> Path:
    """What the page would save: the worst label replaced by the model's box."""
    row = rows_of(audited / "audit.csv")[0]
    entry = {
        "image": row["image"], "decision": "model", "kind": row["kind"],
        "label": [float(row[name]) for name in ("x1", "y1", "x2", "y2")],
        "model": [float(row[f"model_{name}"]) for name in ("x1", "y1", "x2", "y2")],
    }  # fmt: skip
    path = folder / "decisions.json"
    path.write_text(json.dumps({"format": "solobox audit decisions 1", "decisions": [entry | change]}))
    return path


def test_decisions_are_applied_to_a_copy_and_nothing_is_trained(
    audited: Path, drawn: Path, tmp_path: Path
) -> None:
    before = digest(drawn)
    path = decisions(audited, tmp_path)
    done = solobox("audit", drawn / "annotations.csv", "--apply", path, "--fix", tmp_path / "clean.csv")
    assert done.returncode == 0, done.stderr
    assert "48 rows, of which 1 changed; 0 left out" in done.stderr
    assert "fold" not in done.stderr
    worst = rows_of(audited / "audit.csv")[0]
    clean, old = Dataset.read(tmp_path / "clean.csv"), Dataset.read(drawn / "annotations.csv")
    changed = np.flatnonzero((clean.boxes != old.boxes).any(axis=1)).tolist()
    assert [old.names[row] for row in changed] == [worst["image"]]
    assert clean.boxes[changed[0]].tolist() == [
        float(worst[f"model_{name}"]) for name in ("x1", "y1", "x2", "y2")
    ]
    assert digest(drawn) == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"decision": "burn"}, "decision-invalid"),
        ({"image": "images/other.jpg"}, "decision-outdated"),
        ({"label": [1, 2, 3, 4]}, "decision-outdated"),
        ({"model": None}, "decision-invalid"),
    ],
)
def test_after_an_invalid_decision_nothing_is_written(
    audited: Path, drawn: Path, tmp_path: Path, change: dict[str, object], code: str
) -> None:
    path = decisions(audited, tmp_path, **change)
    done = solobox_here("audit", drawn / "annotations.csv", "--apply", path, "--fix", tmp_path / "clean.csv")
    assert done.returncode == 2
    assert f"[{code}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["decisions.json"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--apply", "d.json"], "argument-missing"),
        (["--apply", "d.json", "--fix", "OUT", "-o", "OUT"], "options-conflict"),
        (["--apply", "d.json", "--fix", "OUT", "--size", "64"], "options-conflict"),
        (["--apply", "d.json", "--fix", "OUT"], "decisions-unreadable"),
        (["--open"], "argument-missing"),
        (["--open", "--fix", "DATA"], "output-is-input"),
        (["--open", "--fix", "FULL", "--overwrite"], "labels-exist"),
        (["--apply", "d.json", "--fix", "OUT", "--open"], "options-conflict"),
        (["--folds", "1"], "out-of-range"),
        (["--folds", "0"], "out-of-range"),
        (["-o", "DATA"], "output-is-input"),
        (["--report", "DATA"], "output-is-input"),
        (["--fix", "DATA"], "output-is-input"),
        (["-o", "IMAGE"], "output-is-input"),
        (["--config", "FULL"], "options-conflict"),
        (["--folds", "49"], "too-few-groups"),
    ],
)
def test_wrong_options_have_a_code_and_change_nothing(
    drawn: Path, tmp_path: Path, words: list[str], code: str
) -> None:
    before = digest(drawn)
    (tmp_path.parent / "full.toml").write_text('recipe = "finetune"\n')
    paths = {
        "FULL": tmp_path.parent / "full.toml",
        "DATA": drawn / "annotations.csv", "OUT": tmp_path / "out.csv", "IMAGE": drawn / "images" / "00000.jpg",
    }  # fmt: skip
    done = solobox_here("audit", drawn / "annotations.csv", *[paths.get(word, word) for word in words])
    assert done.returncode == 2
    assert f"[{code}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert digest(drawn) == before
    assert not list(tmp_path.iterdir())


def test_the_page_shows_flagged_images_and_what_is_decided_is_in_the_copy(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def audit(dataset: Dataset, *_: object, **__: object) -> Audit:
        """By a model that is right, but for the one label that is wrong."""
        boxes = dataset.boxes.copy()
        boxes[7] = (40, 30, 60, 50)
        sizes = [Prediction(name, box, (96, 72)) for name, box in zip(dataset.names, boxes, strict=True)]
        return audit_labels(dataset, sizes)

    def run(server: AnnotationServer) -> None:
        task = server.session.next("ann")
        assert task is not None
        assert task.suggestion is not None
        assert task.suspect is not None
        asked.append((task.name, task.suspect.why))
        x1, y1, x2, y2 = task.suggestion.box.tolist()
        answer = Answer(kind="box", box=(x1, y1, x2, y2), source="accepted", suggested=(x1, y1, x2, y2))
        server.session.answer(task.index, answer, person="ann", seen=task.seen)
        assert server.session.next("ann") is None

    asked: list[tuple[str, str]] = []
    monkeypatch.setattr("solobox.api.audit", audit)
    monkeypatch.setattr(AnnotationServer, "run", run)
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    data = Dataset.read(drawn / "annotations.csv")
    done = solobox_here("audit", drawn / "annotations.csv", "--open", "--fix", tmp_path / "fixed.csv")
    assert done.returncode == 0, done.stderr
    assert opened[0] in done.stderr
    assert "0 flagged labels not looked at yet" in done.stderr
    ((name, why),) = asked
    assert data.names[7].endswith(name)
    assert "does not overlap" in why
    fixed = Dataset.read(tmp_path / "fixed.csv")
    assert fixed.boxes[7].tolist() == [40, 30, 60, 50]
    others = np.arange(len(data)) != 7
    np.testing.assert_array_equal(fixed.boxes[others], data.boxes[others])


def test_an_unreadable_image_ranks_first(drawn: Path, tmp_path: Path) -> None:
    lines = (drawn / "annotations.csv").read_text().splitlines()
    header = lines[0].split(",").index("image")
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:
        row[header] = str(drawn / row[header])
    broken = tmp_path / "broken.jpg"
    whole = Path(rows[4][header]).read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    rows[4][header] = str(broken)
    data = tmp_path / "data.csv"
    data.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]))
    refused = solobox("audit", data, *SMALL)
    assert refused.returncode == 2
    assert "broken.jpg" in refused.stderr
    done = solobox("audit", data, "-o", tmp_path / "audit.csv", "--skip-bad", *SMALL, brief=True)
    assert done.returncode == 0, done.stderr
    first = rows_of(tmp_path / "audit.csv")[0]
    assert (first["kind"], first["flagged"], first["score"]) == ("image unreadable", "yes", "inf")
    assert "broken.jpg" in first["image"]
