"""Ctrl-C and SIGTERM at any moment: an orderly end, without a traceback, with the documented exit status."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from exported_models import localizer_of

from solobox import synthetic
from solobox.utils.signals import Terminated, interruptible, signals_held

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    synthetic.write(folder, 24, seed=1)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    localizer_of().save(folder)
    return folder


def stopped(words: list[object], number: signal.Signals, library: str, delay: float) -> tuple[int, str]:
    """Exit status and standard error of a command that gets a signal after it has begun to load a library."""
    process = subprocess.Popen(
        [sys.executable, "-m", "solobox", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and library not in maps.read_text():
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.parametrize("seed", range(4))
def test_training_ends_in_order_whenever_a_signal_comes(data: Path, tmp_path: Path, seed: int) -> None:
    """Most of these come while PyTorch and OpenVINO load and compile."""
    rng = np.random.default_rng(seed)
    number = list(SIGNALS)[seed % 2]
    library = ["libtorch", "libopenvino"][seed // 2 % 2]
    words = ["train", data / "annotations.csv", "-o", tmp_path / "run", "--size", 64, "--epochs", 1]
    status, errors = stopped(words, number, library, float(rng.uniform(0, 1.5)))
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in errors
    if "--resume" in errors:  # it had begun to train, and was paused
        assert status == SIGNALS[number]
    elif status == 0:
        assert (tmp_path / "run" / "config.json").exists()
    else:
        assert (status, errors.splitlines()[-1]) == (SIGNALS[number], "stopped")
        assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("predict", signal.SIGTERM),
        ("evaluate", signal.SIGINT),
        ("export", signal.SIGTERM),
        ("audit", signal.SIGTERM),
        ("curve", signal.SIGINT),
    ],
)
def test_every_command_ends_in_order(
    data: Path, run: Path, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    annotations = data / "annotations.csv"
    words: dict[str, list[object]] = {
        "predict": [run, data, "-o", tmp_path / "rows.csv"],
        "evaluate": [run, annotations],
        "export": [run, "-o", tmp_path / "model.onnx"],
        "audit": [annotations, "-o", tmp_path / "audit", "--size", 64],
        "curve": [annotations, "--size", 64],
    }
    status, errors = stopped([command, *words[command]], number, "libtorch_python", 0.1)
    assert "Traceback" not in errors
    assert (status, errors.splitlines()[-1:]) == (SIGNALS[number], ["stopped"])


def receive(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # the handler runs between two instructions


def test_held_signals_come_after_the_block() -> None:
    steps = []
    with interruptible():
        with pytest.raises(Terminated), signals_held():  # noqa: PT012 (the block raises at its end)
            receive(signal.SIGTERM)
            steps.append("the end of the block")
        with pytest.raises(KeyboardInterrupt):
            receive(signal.SIGINT)
    assert steps == ["the end of the block"]


def test_a_signal_that_python_cannot_raise_comes_again() -> None:
    class Destroyed:
        def __del__(self) -> None:
            receive(signal.SIGINT)

    def forget_and_wait(one: Destroyed) -> None:
        del one
        time.sleep(5)

    with interruptible(), pytest.raises(KeyboardInterrupt):
        forget_and_wait(Destroyed())


@pytest.mark.parametrize("platform", [sys.platform, "win32"])
def test_a_signal_in_an_import_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    name = f"slowly_imported_on_{platform}"
    (tmp_path / f"{name}.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGTERM)\ntime.sleep(0.3)\ndone = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "platform", platform)
    if platform == "win32":  # where it would end the process without a word
        monkeypatch.setattr(os, "kill", lambda *_: None)
    with interruptible(), pytest.raises(Terminated):  # noqa: PT012
        assert importlib.import_module(name).done
        for _ in range(100):
            time.sleep(0.05)
    assert name in sys.modules
