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

from solobox.errors import ConfigError, DataError
from solobox.training.loggers import loggers, write_history


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_history_holds_the_rows_of_the_last_call(tmp_path: Path) -> None:
    path = tmp_path / "run" / "history.csv"
    rows = [{"stage": "head", "epoch": 1, "loss": 0.5}, {"stage": "head", "epoch": 2, "loss": 0.25}]
    write_history(path, rows)
    write_history(path, [*rows[:1], {"stage": "finetune", "epoch": 1, "loss": None, "iou": 0.75}])
    assert rows_of(path) == [
        {"stage": "head", "epoch": "1", "loss": "0.5", "iou": ""},
        {"stage": "finetune", "epoch": "1", "loss": "", "iou": "0.75"},
    ]
    assert list(path.parent.iterdir()) == [path]


@given(st.lists(st.floats(), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_metrics_are_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.getbasetemp() / "metrics.csv"
    write_history(path, [{"loss": value} for value in values])
    assert [repr(float(row["loss"])) for row in rows_of(path)] == [repr(value) for value in values]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".history.csv.0123abcd.part").write_text("half")
    write_history(tmp_path / "history.csv", [{"epoch": 1}])
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def test_a_history_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"history\.csv"):
        write_history(tmp_path / "file" / "history.csv", [{"epoch": 1}])


def events(folder: Path) -> Iterator[Any]:
    """The events in TensorBoard's files: records of length, checksum, contents, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.glob("events.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + size])
            at += 12 + size + 4


def test_tensorboard_files_hold_the_metrics_from_before_and_after_a_resume(tmp_path: Path) -> None:
    for steps in (range(2), range(2, 4)):  # the second time as after a resume
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


@pytest.mark.parametrize(("name", "hint"), [("tensorbord", "'tensorboard'"), ("csv", "mlflow, wandb")])
def test_an_unknown_logger_is_an_error(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as error:
        loggers(["tensorboard", name], tmp_path / "run", "mine")
    assert error.value.code == "unknown-logger"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for package in ("lightning", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=f"{name} and lightning") as error:
        loggers([name], tmp_path, "mine")
    assert error.value.code == "package-missing"


def test_a_missing_tensorboard_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for flag in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(f"lightning_fabric.loggers.tensorboard.{flag}", False)
    with pytest.raises(ConfigError, match=r"\[loggers\] extra") as error:
        loggers(["tensorboard"], tmp_path, "mine")
    assert error.value.code == "package-missing"
    assert "\n" not in str(error.value)


class Recorder:
    """Stands in for a logger of Lightning: keeps its arguments."""

    made: list["Recorder"]

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        type(self).made.append(self)


class MLFlow(Recorder):
    made: list[Recorder] = []  # noqa: RUF012 (emptied for each test)

    @property
    def run_id(self) -> str:
        return self.arguments["run_id"] or f"run-{len(self.made)}"


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


def test_a_resumed_run_continues_the_runs_of_the_trackers(tmp_path: Path, lightning: SimpleNamespace) -> None:
    first = loggers(["mlflow", "wandb", "mlflow"], tmp_path, "mine")
    assert first == [lightning.mlflow[0], lightning.wandb[0]]
    assert lightning.mlflow[0].arguments == {
        "experiment_name": "solobox", "run_name": "mine", "tracking_uri": None,
        "save_dir": str(tmp_path / "mlruns"), "run_id": None,
    }  # fmt: skip
    assert loggers(["wandb", "mlflow"], tmp_path, "mine") == [lightning.wandb[1], lightning.mlflow[1]]
    assert lightning.mlflow[1].arguments["run_id"] == "run-1"
    assert lightning.wandb[1].arguments == lightning.wandb[0].arguments
    assert lightning.wandb[0].arguments["save_dir"] == str(tmp_path)
    loggers(["wandb"], tmp_path / "another", "mine")
    assert lightning.wandb[2].arguments["id"] != lightning.wandb[0].arguments["id"]


def test_the_environment_variables_of_the_trackers_count(
    tmp_path: Path, lightning: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    loggers(["mlflow", "wandb"], tmp_path, "mine")
    assert lightning.mlflow[0].arguments["tracking_uri"] == "http://127.0.0.1:9"
    assert lightning.mlflow[0].arguments["experiment_name"] == "ours"
    assert lightning.wandb[0].arguments["project"] == "theirs"


def test_a_tracker_that_fails_is_an_error(
    tmp_path: Path, lightning: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: MLFlow) -> str:
        raise RuntimeError("no answer from the server")

    monkeypatch.setattr(MLFlow, "run_id", property(fail))
    with pytest.raises(ConfigError, match="no answer from the server") as error:
        loggers(["mlflow"], tmp_path, "mine")
    assert error.value.code == "logger-failed"
    assert len(lightning.mlflow) == 1


def test_a_damaged_run_id_is_an_error(tmp_path: Path, lightning: SimpleNamespace) -> None:
    loggers(["wandb"], tmp_path, "mine")
    (tmp_path / "wandb_run_id.json").write_text("{")
    with pytest.raises(ConfigError) as error:
        loggers(["wandb"], tmp_path, "mine")
    assert error.value.code == "logger-failed"
    assert len(lightning.wandb) == 1
