import csv
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from command_process import solobox as run_command
from command_process import solobox_here
from PIL import Image

from solobox import synthetic
from solobox.config.recipe import OPTIONS

solobox = partial(run_command, brief=True)
SMALL = ["--size", "64", "--crops", "2", "--epochs", "1", "--width", "16", "--bins", "8", "--batch", "8"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    synthetic.write(folder, 40, seed=9, size=(96, 72))
    return folder


@pytest.fixture(scope="module")
def run(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = solobox("train", drawn / "annotations.csv", "-o", folder, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "mean IoU" in done.stdout
    assert "test images were not used" in done.stderr
    return folder


@pytest.fixture(scope="module")
def rival(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run, whose training set includes what the first one held out."""
    folder = tmp_path_factory.mktemp("rivals")
    head, *lines = (drawn / "annotations.csv").read_text().splitlines()
    data = folder / "all.csv"
    data.write_text("\n".join([f"{head},split", *[f"{line},train" for line in lines]]))
    done = solobox("train", data, "-o", folder / "rival", "--images", drawn, *SMALL, "--seed", "1")
    assert done.returncode == 0, done.stderr
    return folder / "rival"


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom solobox.cli import app\napp('--help', result_action='return_none')\n"
        "assert not {'torch', 'pydantic', 'onnxruntime'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("demo", "check", "train", "evaluate", "predict"):
        assert name in done.stdout


def test_the_help_of_train_lists_every_option_in_groups() -> None:
    done = solobox("train", "--help")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    for name, option in OPTIONS.items():
        assert f"--{name.replace('_', '-')} " in text
        if not isinstance(option.default, tuple):
            assert f"[default: {option.default}]" in text.replace(" │ │ ", " ")
    groups = ["Parameters", "Data", "Model", "Augmentation", "Optimization", "Hardware", "Logging"]
    titles = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("╭")]
    assert titles == groups
    common = done.stdout[: done.stdout.index("─ Data ─")]
    for name in ("--output", "--recipe", "--size", "--backbone", "--epochs", "--finetune-epochs", "--seed"):
        assert name in common


def test_the_help_of_a_command_begins_with_all_it_says_of_itself() -> None:
    assert "Ctrl-C pauses the run" in solobox("train", "--help").stdout


@pytest.mark.parametrize("command", ["audit", "curve"])
def test_the_help_of_a_command_that_cross_validates_is_short(command: str) -> None:
    done = solobox(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "--size" in done.stdout
    assert "solobox train" in done.stdout
    assert "--vectorizer" not in done.stdout  # accepted, but train's help has it


def test_evaluate_writes_what_it_promises(run: Path, drawn: Path, tmp_path: Path) -> None:
    done = solobox(
        "evaluate",
        run,
        drawn / "annotations.csv",
        "--json",
        tmp_path / "m.json",
        "--report",
        tmp_path / "r.html",
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "m.json").read_text())
    wanted = {"n", "mean_iou", "iou50", "iou75", "iou90", "edge_mae_px", "center_mae_px", "by_label"}
    assert wanted <= set(metrics)
    assert 0 < metrics["n"] < 40
    assert sum(label["n"] for label in metrics["by_label"].values()) == metrics["n"]
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    lower, upper = metrics["intervals"]["mean_iou"]
    assert lower <= metrics["mean_iou"] <= upper
    assert f"95% CI {lower:.3f} to {upper:.3f} (bootstrap over {metrics['n']} images" in done.stdout
    assert "against" not in metrics


def test_evaluate_compares_two_runs_on_the_same_images(
    run: Path, rival: Path, drawn: Path, tmp_path: Path
) -> None:
    words: list[str | Path] = [
        "--split",
        "all",
        "--json",
        tmp_path / "m.json",
        "--report",
        tmp_path / "r.html",
    ]
    done = solobox("evaluate", run, drawn / "annotations.csv", "--against", rival, *words)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "m.json").read_text())
    found = facts["against"]
    assert (found["run"], found["n"], facts["n"]) == ("rival", 40, 40)
    difference = facts["mean_iou"] - found["metrics"]["mean_iou"]
    assert found["differences"]["mean_iou"]["difference"] == pytest.approx(difference)
    assert difference != 0
    said = f"{difference:+.3f}".replace("-", "−") if not found["significant"] else f"{abs(difference):.3f}"
    assert f"{said} mean IoU" in " ".join(done.stdout.split())
    page = (tmp_path / "r.html").read_text()
    assert 'id="comparison"' in page
    assert "rival" in page
    assert "biased in favor of rival" in " ".join(done.stderr.split())


def test_two_runs_of_one_name_are_told_apart_on_the_part_that_the_first_never_saw(
    run: Path, rival: Path, drawn: Path, tmp_path: Path
) -> None:
    other = tmp_path / "run"
    shutil.copytree(rival, other)
    done = solobox(
        "evaluate", run, drawn / "annotations.csv", "--against", other, "--json", tmp_path / "m.json"
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "m.json").read_text())
    assert (facts["n_seen_in_training"], facts["against"]["n_seen_in_training"]) == (0, facts["n"])
    assert f"biased in favor of {other}" in " ".join(done.stderr.split())
    assert str(run) in done.stdout.replace("\n", "")


def test_predict_writes_a_row_for_every_input_in_order(run: Path, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("b.jpg", "a.jpg"):
        shutil.copy(drawn / "images" / "00001.jpg", folder / name)
    (folder / "notes.txt").write_text("not an image")
    (tmp_path / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:500])
    inputs = [tmp_path / "broken.jpg", folder, drawn / "images" / "0000[34].jpg", tmp_path / "list.txt"]
    (tmp_path / "list.txt").write_text("none.png\n")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = solobox("predict", run, *inputs, "-o", tmp_path / "boxes.csv", "--draw", tmp_path / "drawn")
    assert done.returncode == 1, done.stderr
    rows = list(csv.DictReader((tmp_path / "boxes.csv").read_text().splitlines()))
    assert list(rows[0]) == ["image", "x1", "y1", "x2", "y2", "familiarity", "error"]
    names = [Path(row["image"]).name for row in rows]
    assert names == ["broken.jpg", "a.jpg", "b.jpg", "00003.jpg", "00004.jpg", "none.png"]
    assert [bool(row["error"]) for row in rows] == [True, False, False, False, False, True]
    assert all(float(row["x1"]) < float(row["x2"]) for row in rows if not row["error"])
    assert all(row["x1"] == "" for row in rows if row["error"])
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "00003.jpg",
        "00004.jpg",
        "a.jpg",
        "b.jpg",
    ]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_predict_prints_rows_and_leaves_with_0_when_all_were_read(run: Path, drawn: Path) -> None:
    done = solobox("predict", run, drawn / "images" / "00000.jpg")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[0] == "image,x1,y1,x2,y2,familiarity,error"
    assert len(lines) == 2


def test_predict_gives_margins_at_the_level_that_is_asked_for(run: Path, drawn: Path, tmp_path: Path) -> None:
    words: list[str | Path] = ["predict", run, drawn / "images" / "00000.jpg", drawn / "images" / "00001.jpg"]
    done = solobox(*words, "--margins", "0.5", "--draw", tmp_path / "drawn", "-o", tmp_path / "boxes.csv")
    assert done.returncode == 0, done.stderr
    both = list(csv.DictReader((tmp_path / "boxes.csv").read_text().splitlines()))
    assert list(both[0])[5:7] == ["x1_lower", "x1_upper"]
    for row in both:
        for edge in ("x1", "y1", "x2", "y2"):
            assert float(row[f"{edge}_lower"]) <= float(row[edge]) <= float(row[f"{edge}_upper"])
    done = solobox(*words, "--outer", "0.5")
    assert done.returncode == 0, done.stderr
    for row, narrow in zip(csv.DictReader(done.stdout.splitlines()), both, strict=True):
        assert row["x1"] == narrow["x1"]
        assert float(row["x1_outer"]) <= float(row["x1"])
        assert float(row["x2_outer"]) >= float(row["x2"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--margins", "0.99"], "need 99 held-out images"),
        (["--margins", "0.9", "--outer", "0.9"], "give one of them"),
        (["--min-presence", "0.5"], "never learned presence"),
        (["--min-presence", "1.5"], "from 0 to 1"),
    ],
)
def test_what_a_model_cannot_say_is_told(run: Path, drawn: Path, words: list[str], says: str) -> None:
    done = solobox_here("predict", run, drawn / "images" / "00000.jpg", *words)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert not done.stdout


def test_drawing_never_writes_over_the_images(run: Path, drawn: Path, tmp_path: Path) -> None:
    shutil.copy(drawn / "images" / "00000.jpg", tmp_path / "p.jpg")
    before = (tmp_path / "p.jpg").read_bytes()
    done = solobox("predict", run, tmp_path / "p.jpg", "--draw", tmp_path)
    assert done.returncode == 2
    assert "holds some of these images" in " ".join(done.stderr.split())
    assert (tmp_path / "p.jpg").read_bytes() == before


def test_check_finds_and_fixes(drawn: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        Image.effect_noise((60, 40), 50 + number).convert("RGB").save(images / f"{number}.png")
    rows = [f"images/{number}.png,{5 + number},5,{40 + number},30" for number in range(5)]
    data = tmp_path / "data.csv"
    data.write_text("\n".join(["image,x1,y1,x2,y2", *rows, "images/5.png,10,20,30,20", ""]))
    done = solobox("check", data, "--json", tmp_path / "f.json", "--fix", tmp_path / "clean.csv")
    assert done.returncode == 1
    assert "images/5.png" in done.stdout
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["counts"]["empty-box"] == 1
    refused = solobox("train", data, "-o", tmp_path / "run", *SMALL)
    assert refused.returncode == 2
    assert "--skip-bad" in refused.stderr
    assert not (tmp_path / "run").exists()
    assert solobox("check", tmp_path / "clean.csv").returncode == 0
    clean = solobox("check", drawn / "annotations.csv")
    assert clean.returncode == 0
    assert "Nothing is wrong" in clean.stdout


def test_train_counts_what_it_skips(drawn: Path, tmp_path: Path) -> None:
    lines = (drawn / "annotations.csv").read_text().splitlines()
    image = lines[1].split(",")[0]
    lines[1] = lines[1].replace(image, "images/lost.jpg", 1)
    data = tmp_path / "data.csv"
    data.write_text("\n".join(lines))
    done = solobox("train", data, "-o", tmp_path / "run", "--images", drawn, "--skip-bad", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "Left out: 1 row with errors" in done.stderr
    rows = [re.findall(r"[\w,]+", line) for line in done.stderr.splitlines()]
    counts = {
        row[0]: [int(cell) for cell in row[1:]] for row in rows if row[:1] in (["train"], ["val"], ["test"])
    }
    assert len(counts) == 3
    assert sum(row[-1] for row in counts.values()) == len(lines) - 2  # a header, and the row with an error
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["counts"]
    assert {name: row[0] for name, row in counts.items()} == {name: kept[name] for name in counts}
    assert kept["bad_rows"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "DATA", "-o", "RUN", "--loss", "l9"], "error[unknown-loss]"),
        (["train", "DATA", "-o", "RUN", "--epochz", "3"], "--epochs"),
        (["train", "DATA", "-o", "RUN", "--batch", "0"], "error[out-of-range]"),
        (["train", "nowhere.csv", "-o", "RUN"], "nowhere.csv"),
        (["evaluate", "NORUN", "DATA"], "config.json"),
        (["evaluate", "RUNDIR", "DATA", "--against", "NORUN"], "config.json"),
        (["predict", "RUNDIR", "nothing-*.jpg"], "nothing matches"),
        (["train", "DATA", "-o", "RUNDIR"], "error[run-exists]"),
        (["train"], "error[argument-missing]"),
        (["train", "--resume", "RUNDIR"], "error[run-finished]"),
        (["train", "--resume", "NORUN"], "error[run-missing]"),
        (["train", "DATA", "--resume", "RUNDIR"], "error[options-conflict]"),
        (["train", "DATA", "-o", "RUN", "--size", "native"], "error[options-conflict]"),
        (["summary", "RUNDIR", "--backbone", "resnet18"], "error[options-conflict]"),
        (["demo", "-o", "DATA"], "is a file"),
    ],
)
def test_mistakes_get_a_sentence_and_no_traceback(
    run: Path, drawn: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    places = {"DATA": drawn / "annotations.csv", "RUN": tmp_path / "r", "NORUN": tmp_path, "RUNDIR": run}
    done = solobox_here(*[places.get(word, word) for word in words])
    assert done.returncode == 2
    assert says in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_settings_come_from_a_file_and_the_command_line_wins(drawn: Path, tmp_path: Path) -> None:
    config = tmp_path / "recipe.toml"
    config.write_text('recipe = "quick"\nsize = 64\ncrops = 2\nepochs = 2\nwidth = 16\nbins = 8\nbatch = 8\n')
    done = solobox(
        "train", drawn / "annotations.csv", "-o", tmp_path / "run", "--config", config, "--epochs", "1"
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (facts["recipe"]["epochs"], facts["recipe"]["crops"]) == (1, 2)
    config.write_text("epoch = 2\n")
    done = solobox("train", drawn / "annotations.csv", "-o", tmp_path / "other", "--config", config)
    assert done.returncode == 2
    assert "error[unknown-option]" in done.stderr
    assert "'epochs'" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipes")
def test_a_reader_that_stops_early_gets_no_traceback(run: Path, drawn: Path) -> None:
    """As in `solobox predict ... | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", "from solobox.cli import main; main()", "predict", run, drawn],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
