"""Two processes that train together (gloo, on the CPU) do what one does alone."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.accelerators.mps import MPSAccelerator
from torch.nn import functional as F

from solobox import synthetic
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError
from solobox.model.sync_layers import BatchSlice, Dropout2d
from solobox.training import distributed
from solobox.training.distributed import Distributed, launch_fabric
from solobox.training.train import train

pytestmark = pytest.mark.usefixtures("without_openvino", "few_steps")

PROGRAM = Path(__file__).parent / "distributed_program.py"
QUICK: dict[str, Any] = {
    "size": 64, "crops": 2, "epochs": 6, "finetune_epochs": 1, "width": 16, "bins": 8, "batch": 7,
    "precision": "32-true", "accelerator": "cpu", "lr": 0.00003, "finetune_lr": 0.000005,
}  # fmt: skip
"""At a rate that does not multiply what numbers lose by being added in another order. Training of so small a net is
chaotic at higher rates: at five times this one, rounding alone can grow from 1e-7 to 1e-2 within a hundred steps; the
last bits of the features decide whether it does, and those are not the same on all processors."""

# Each stage by itself: together they have too many steps for that.
HEAD: dict[str, Any] = QUICK | {"finetune_epochs": 0}
TRUNK: dict[str, Any] = QUICK | {"epochs": 0, "finetune_epochs": 2}

ARTICLE: dict[str, Any] = QUICK | {
    "vectorizer": "gap", "head": "regression", "extra": [8], "epochs": 0, "finetune_epochs": 2, "finetune_lr": 0.001,
    "loss": "mse", "batch": 9, "accumulate": 2,
}  # fmt: skip
IMAGES = 30
VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "SLURM_PROCID")
CLEAN = {key: value for key, value in os.environ.items() if key not in VARIABLES}

Reports = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic.write(folder, IMAGES, seed=5, size=(96, 72))
    return folder / "annotations.csv"


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of which some are without the object, so that presence is learnt."""
    folder = tmp_path_factory.mktemp("sparse")
    synthetic.write(folder, IMAGES, seed=6, size=(96, 72), empty_share=0.3)
    return folder / "annotations.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two(drawn: Path, sparse: Path, folder: Path) -> Reports:
    """What the two ranks report of several runs, one after the other, started by torchrun as it is."""
    broken = folder / "broken"
    shutil.copytree(drawn.parent, broken)
    spoilt = sorted(broken.glob("**/*.jpg"))[3]
    spoilt.write_bytes(spoilt.read_bytes()[:900])
    lonely = folder / "lonely.csv"
    rows = drawn.read_text().splitlines()
    places = [f"{drawn.parent / row.split(',', 1)[0]},{row.split(',', 1)[1]}" for row in rows[1:]]
    splits = ["val", *["train"] * (IMAGES - 1)]
    body = [f"{row},{split}" for row, split in zip(places, splits, strict=True)]
    lonely.write_text("\n".join([f"{rows[0]},split", *body]) + "\n")
    paused = {"data": str(drawn), "run": str(folder / "paused")}
    stopped = {"data": str(drawn), "run": str(folder / "stopped")}
    bad = {"data": str(broken / drawn.name), "changes": QUICK | {"finetune_epochs": 0}}
    jobs = [
        {"name": "quick", "data": str(drawn), "run": str(folder / "quick"), "changes": QUICK},
        {"name": "presence", "data": str(sparse), "run": str(folder / "presence"), "changes": HEAD},
        {"name": "presence with the backbone", "data": str(sparse), "run": str(folder / "backbone"), "changes": TRUNK},
        {"name": "article begins", **paused, "changes": ARTICLE, "options": {"stop_after": 1}},
        {"name": "article", **paused, "changes": None, "options": {"resume": True}},
        {"name": "terminated", **stopped, "changes": ARTICLE, "terminated": 1},
        {"name": "bad", **bad, "run": str(folder / "bad")},
        {"name": "skipping", **bad, "run": str(folder / "skipping"), "options": {"skip_bad": True}},
        {"name": "on disk", "data": str(drawn), "run": str(folder / "disk"), "changes": QUICK | {"ram_gb": 0.0}},
        {"name": "one to validate", "data": str(lonely), "run": str(folder / "lonely"), "changes": QUICK},
        {"name": "two maps", "data": str(drawn), "run": str(folder / "maps"), "changes": QUICK | {"strides": [8, 16]}},
        {"name": "small", "data": str(drawn), "run": str(folder / "small"), "changes": QUICK | {"batch": 1}},
        {"name": "many", "data": str(drawn), "run": str(folder / "many"), "changes": QUICK | {"devices": 3}},
    ]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1",
        f"--master-port={port}", str(PROGRAM), json.dumps(jobs), str(folder / "report"),
    ]  # fmt: skip
    done = subprocess.run(words, env=CLEAN, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    reports = [json.loads((folder / f"report.{rank}.json").read_text()) for rank in range(2)]
    return {name: [report[name] for report in reports] for name in reports[0]}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the ranks have: with more, the backbone adds in another order, which rounding to bfloat16 magnifies."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def figures(history: Any) -> list[float]:
    return [line[key] for line in history for key in ("train_loss", "train_iou", "val_iou")]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("quick", QUICK),
        ("article", ARTICLE),
        ("on disk", QUICK),
        ("presence", HEAD),
        ("presence with the backbone", TRUNK),
    ],
)
def test_two_ranks_are_one(
    two: Reports, drawn: Path, sparse: Path, tmp_path: Path, name: str, changes: Any
) -> None:
    data = sparse if name.startswith("presence") else drawn
    alone = train(Dataset.read(data), tmp_path / "alone", Recipe.from_preset("quick", changes))
    assert (alone.presence is not None) == name.startswith("presence")
    first, second = two[name]
    assert first["weights"] == second["weights"]
    assert figures(first["history"]) == figures(second["history"])
    assert figures(first["history"]) == pytest.approx(figures(alone.metadata["history"]), abs=1e-5)
    sums = [float(value.double().sum()) for value in alone.state_dict().values()]
    assert first["weights"] == pytest.approx(sums, rel=1e-4, abs=1e-3)
    assert alone.calibration is not None
    assert first["margins"] == second["margins"]
    for kind in ("two_sided", "outer"):
        assert first["margins"][kind] == pytest.approx(alone.calibration.to_dict()[kind], rel=1e-3, abs=1e-3)


def test_each_image_is_decoded_once_on_the_host_and_measured_once_by_each_epoch(two: Reports) -> None:
    first, second = two["quick"]
    decoded = [*first["decoded"], *second["decoded"]]
    counts = first["counts"]
    assert len(decoded) == len(set(decoded)) == counts["train"] + counts["val"]
    assert min(len(first["decoded"]), len(second["decoded"])) > len(decoded) / 3
    epochs = len(first["history"])
    assert sum(first["measured"]) + sum(second["measured"]) == counts["val"] * epochs


def test_one_of_them_writes(two: Reports, folder: Path, drawn: Path, tmp_path: Path) -> None:
    train(Dataset.read(drawn), tmp_path, Recipe.from_preset("quick", QUICK))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert sorted(path.name for path in (folder / "quick").iterdir()) == names
    assert sorted(path.name for path in (folder / "disk").iterdir()) == names
    rows = (folder / "quick" / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + len(two["quick"][0]["history"])


@pytest.mark.usefixtures("two")
def test_each_leaves_the_group_before_it_ends(folder: Path) -> None:
    """One that does not is aborted by Gloo's threads: eleven of thirty times beside a busy process."""
    for rank in range(2):
        assert json.loads((folder / f"report.{rank}.ended").read_text()) == {"in a group": False}


def test_fewer_images_than_ranks_to_validate_with(two: Reports) -> None:
    first, second = two["one to validate"]
    assert first["counts"]["val"] == 1
    assert figures(first["history"]) == figures(second["history"])


def test_a_backbone_with_more_stages_than_are_used(two: Reports) -> None:
    first, second = two["two maps"]
    assert [line["stage"] for line in first["history"]][-1] == "finetune"
    assert first["weights"] == second["weights"]


def test_a_signal_that_one_of_them_gets_pauses_them_all(two: Reports, folder: Path) -> None:
    for report in two["terminated"]:
        assert report["error"].startswith("Paused:")
    assert (folder / "stopped" / "checkpoint.pt").exists()
    assert len((folder / "stopped" / "history.csv").read_text().splitlines()) == 2


def test_a_image_that_one_of_them_cannot_read_stops_them_all(two: Reports) -> None:
    first, second = two["bad"]
    assert first["error"] == second["error"]
    assert first["error"].startswith("DataError:")
    assert "--skip-bad" in first["error"]


def test_or_is_left_out_by_them_all(two: Reports) -> None:
    first, second = two["skipping"]
    assert len(first["unreadable"]) == first["counts"]["unreadable"] == 1
    assert first["unreadable"] == second["unreadable"]
    assert first["weights"] == second["weights"]


@pytest.mark.parametrize(("name", "said"), [("small", "a batch of 1 "), ("many", "devices 3 and nodes 1")])
def test_what_does_not_go_is_told(two: Reports, name: str, said: str) -> None:
    for report in two[name]:
        assert report["error"].startswith("ConfigError:")
        assert said in report["error"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (1, 1)),
        (
            {"TORCHELASTIC_RUN_ID": "a", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "12"},
            (4, 3),
        ),
        (
            {
                "SLURM_NTASKS": "16",
                "SLURM_NTASKS_PER_NODE": "8",
                "SLURM_NNODES": "2",
                "SLURM_JOB_NAME": "train",
            },
            (8, 2),
        ),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "interactive"}, (1, 1)),
    ],
)
def test_what_torchrun_and_slurm_started_is_found(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[int, int]
) -> None:
    for name in [name for name in os.environ if name.startswith(("TORCHELASTIC", "SLURM"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.started_processes() == expected


@pytest.mark.parametrize(
    ("variables", "nodes", "said"),
    [({"SLURM_PROCID": "2"}, 0, "not the first of its job"), ({}, 2, "MASTER_ADDR")],
)
def test_a_start_that_cannot_work_is_told(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], nodes: int, said: str
) -> None:
    for name in (*VARIABLES, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        launch_fabric("cpu", "32-true", devices=0, nodes=nodes)


def test_missing_devices_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        launch_fabric("cuda", "32-true", devices=500, nodes=1)
    assert error.value.code == ("distributed" if torch.cuda.is_available() else "no-accelerator")


def test_a_mac_trains_on_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert launch_fabric("auto", "32-true", devices=1, nodes=1).device == torch.device("cpu")


def test_a_process_alone_has_all_of_everything() -> None:
    alone = Distributed()
    assert alone.batch_slice(5) == BatchSlice(0, 5, 5)
    assert alone.weight(alone.batch_slice(5)) == 1
    assert alone.on_rank_zero(lambda: 3) == alone.on_local_rank_zero(lambda: 3) == 3
    assert list(alone.local_share(range(4))) == [0, 1, 2, 3]


@pytest.mark.parametrize(("size", "total"), [(2, 7), (3, 3), (4, 9), (5, 3)])
def test_parts_are_the_whole_batch_and_their_weights_make_its_mean(size: int, total: int) -> None:
    values = torch.rand(total, dtype=torch.float64)
    parts, means = [], []
    for rank in range(size):
        one = Distributed()
        one.size, one.rank = size, rank
        part = one.batch_slice(total)
        parts.append(values[part.rows])
        means.append(values[part.rows].mean() * one.weight(part))
    if total >= size:
        assert torch.equal(torch.cat(parts), values)
    assert float(torch.stack(means).mean()) == pytest.approx(float(values.mean()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_of_parts_is_dropout_of_the_batch(dtype: torch.dtype) -> None:
    layer, batch = Dropout2d(0.4).train(), torch.rand(7, 5, 3, 3).to(dtype)
    made = []
    for part in (BatchSlice(0, 4, 7), BatchSlice(4, 7, 7)):
        torch.manual_seed(3)
        layer.batch_slice = part
        made.append(layer(batch[part.rows]))
    torch.manual_seed(3)
    whole = F.dropout2d(batch, 0.4, training=True)
    assert 0 < int((whole == 0).sum()) < whole.numel()
    assert torch.equal(torch.cat(made), whole)
