import subprocess
import sys

import pytest

from solobox.machine import openvino_core

CODE = """
import os, signal, time
import numpy as np, openvino
from openvino import opset8 as ops
from solobox.machine import openvino_core

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


def test_ctrl_c_is_only_that_after_several_openvino_models() -> None:
    """Where processors have AVX-512, with a core for each model it is a segmentation fault."""
    pytest.importorskip("openvino")
    assert openvino_core() is openvino_core()
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "stopped"), done.stderr
