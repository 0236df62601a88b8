import subprocess
import sys

import pytest

from solobox.utils.concurrency import openvino_core, threaded_map

CODE = """
import os, signal, time
import openvino
from openvino import opset8 as ops
from solobox.utils.concurrency import openvino_core

def compiled():
    pixels = ops.parameter([1, 3, 8, 8])
    return openvino_core().compile_model(openvino.Model([ops.relu(pixels)], [pixels], "a layer"), "CPU")

first, second = compiled(), compiled()
del first, second
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_does_not_crash_after_several_openvino_models() -> None:
    """Where processors have AVX-512, with a core for each model it is a segmentation fault."""
    pytest.importorskip("openvino")
    assert openvino_core() is openvino_core()
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "stopped"), done.stderr


def test_threads_stay_close_to_a_reader_that_may_stop() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        return number

    results = threaded_map(work, range(1000), workers=16)
    for n_read in range(1, 500):
        assert next(results) == n_read - 1
        assert len(started) <= n_read + 32
    results.close()
    assert len(started) < 600
