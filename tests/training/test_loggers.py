import csv
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric.utilities.rank_zero import rank_zero_only

from solobox.errors import ConfigError, DataError
from solobox.training.loggers import IDS, HistoryCsv, loggers


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_history_holds_the_rows_given_last(tmp_path: Path) -> None:
    history = HistoryCsv(tmp_path / "run" / "history.csv")
    rows = [{"stage": "head", "epoch": 1, "loss": 0.5}, {"stage": "head", "epoch": 2, "loss": 0.25}]
    history.write(rows)
    history.write([*rows[:1], {"stage": "finetune", "epoch": 1, "loss": None, "iou": 0.75}])
    assert rows_of(history.path) == [
        {"stage": "head", "epoch": "1", "loss": "0.5", "iou": ""},
        {"stage": "finetune", "epoch": "1", "loss": "", "iou": "0.75"},
    ]
    assert list(history.path.parent.iterdir()) == [history.path]


@given(st.lists(st.floats(), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_figures_are_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.getbasetemp() / "figures.csv"
    HistoryCsv(path).write([{"loss": value} for value in values])
    assert [repr(float(row["loss"])) for row in rows_of(path)] == [repr(value) for value in values]


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".history.csv.0123abcd.part").write_text("half")
    HistoryCsv(tmp_path / "history.csv").write([{"epoch": 1}])
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def test_a_history_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        HistoryCsv(tmp_path / "file" / "history.csv").write([{"epoch": 1}])


def events(folder: Path) -> Iterator[Any]:
    """The events in TensorBoard's files: records of length, checksum, contents, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.glob("events.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + size])
            at += 12 + size + 4


def test_tensorboard_files_hold_the_figures_of_both_parts_of_a_run(tmp_path: Path) -> None:
    for steps in (range(2), range(2, 4)):  # the second time, it is resumed
        (logger,) = loggers(["tensorboard"], tmp_path, "mine")
        logger.log_hyperparams({"lr": 0.5, "backbone": {"name": "lite0"}, "none": None})
        for step in steps:
            logger.log_metrics({"val/iou": step / 4}, step)
        logger.finalize("success")
    seen = [
        (event.step, value.tag, value.simple_value)
        for event in events(tmp_path / "tensorboard" / "mine")
        for value in event.summary.value
        if value.tag == "val/iou"
    ]
    assert sorted(seen) == [(step, "val/iou", step / 4) for step in range(4)]
    text = b"".join(event.SerializeToString() for event in events(tmp_path / "tensorboard" / "mine"))
    assert b"backbone/name" in text
    assert b"lite0" in text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tensorbord", "did you mean 'tensorboard'"),
        ("csv", "there is no logger 'csv': tensorboard, mlflow, wandb"),
    ],
)
def test_an_unknown_name_is_told(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        loggers(["tensorboard", name], tmp_path / "run", "mine")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for package in ("lightning", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=f"install the packages {name} and lightning$"):
        loggers([name], tmp_path, "mine")


def test_a_missing_tensorboard_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for flag in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(f"lightning_fabric.loggers.tensorboard.{flag}", False)
    with pytest.raises(ConfigError, match=r"^the logger 'tensorboard' .*\[loggers\] extra, or tensorboard$"):
        loggers(["tensorboard"], tmp_path, "mine")


class Recorder:
    """Stands in for a logger of Lightning: keeps what it was made with and told."""

    made: list["Recorder"]

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.told: list[Any] = []
        type(self).made.append(self)

    def log_metrics(self, metrics: Any, step: int) -> None:
        self.told.append((dict(metrics), step))

    def log_hyperparams(self, params: Any) -> None:
        self.told.append(params)

    def finalize(self, status: str) -> None:
        self.told.append(status)


class MLFlow(Recorder):
    made: list[Recorder] = []  # noqa: RUF012 (emptied for each test)

    @property
    def run_id(self) -> str:
        return self.given["run_id"] or f"run-{len(self.made)}"


class Wandb(Recorder):
    made: list[Recorder] = []  # noqa: RUF012


@pytest.fixture(params=["lightning.pytorch.loggers", "pytorch_lightning.loggers"])
def lightning(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Lightning under one of its two names, the other one absent."""
    for package in ("lightning", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, package, None)
    parts = request.param.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        monkeypatch.setitem(sys.modules, name, module := ModuleType(name))
        module.__path__ = []
    module.MLFlowLogger, module.WandbLogger = MLFlow, Wandb  # type: ignore[attr-defined]
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    MLFlow.made.clear()
    Wandb.made.clear()
    return SimpleNamespace(mlflow=MLFlow.made, wandb=Wandb.made)


def test_a_resumed_run_goes_on_in_the_same_runs_of_the_trackers(
    tmp_path: Path, lightning: SimpleNamespace
) -> None:
    first = loggers(["mlflow", "wandb", "mlflow"], tmp_path, "mine")
    assert first == [lightning.mlflow[0], lightning.wandb[0]]
    assert lightning.mlflow[0].given == {
        "experiment_name": "solobox", "run_name": "mine", "tracking_uri": None,
        "save_dir": str(tmp_path / "mlruns"), "run_id": None,
    }  # fmt: skip
    assert loggers(["wandb", "mlflow"], tmp_path, "mine") == [lightning.wandb[1], lightning.mlflow[1]]
    assert lightning.mlflow[1].given["run_id"] == "run-1"
    assert lightning.wandb[1].given == lightning.wandb[0].given
    assert lightning.wandb[0].given["save_dir"] == str(tmp_path)
    loggers(["wandb"], tmp_path / "another", "mine")
    assert lightning.wandb[2].given["id"] != lightning.wandb[0].given["id"]


def test_the_trackers_own_variables_are_heeded(
    tmp_path: Path, lightning: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    loggers(["mlflow", "wandb"], tmp_path, "mine")
    assert lightning.mlflow[0].given["tracking_uri"] == "http://127.0.0.1:9"
    assert lightning.mlflow[0].given["experiment_name"] == "ours"
    assert lightning.wandb[0].given["project"] == "theirs"


def test_a_tracker_that_refuses_is_told(
    tmp_path: Path, lightning: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: MLFlow) -> str:
        raise RuntimeError("no answer from the server")

    monkeypatch.setattr(MLFlow, "run_id", property(refuse))
    with pytest.raises(ConfigError, match="'mlflow' does not work: no answer from the server"):
        loggers(["mlflow"], tmp_path, "mine")
    assert len(lightning.mlflow) == 1


def test_damaged_ids_are_told(tmp_path: Path, lightning: SimpleNamespace) -> None:
    (tmp_path / IDS).write_text("{")
    with pytest.raises(ConfigError, match=r"loggers\.json is damaged: remove it"):
        loggers(["wandb"], tmp_path, "mine")
    assert not lightning.wandb


def test_other_ranks_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert loggers(["tensorboard"], tmp_path / "run", "mine") == []
    assert not (tmp_path / "run").exists()
