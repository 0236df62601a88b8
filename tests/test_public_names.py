import subprocess
import sys

import solobox

NAMES = [
    "Architecture",
    "ConfigError",
    "DataError",
    "Dataset",
    "ImageError",
    "Localizer",
    "OnnxModel",
    "Prediction",
    "Recipe",
    "SoloboxError",
    "evaluate",
    "train",
    "write_report",
]


def test_the_public_names_are_these() -> None:
    assert sorted(solobox.__all__) == NAMES
    for name in NAMES:
        assert getattr(solobox, name) is not None


def test_every_public_name_is_explained() -> None:
    for name in NAMES:
        assert (getattr(solobox, name).__doc__ or "").strip(), name


def test_the_base_install_needs_no_torch() -> None:
    """What `pip install solobox` without extras offers works where torch cannot be imported."""
    code = """
import sys
for name in ("torch", "torchvision", "timm", "lightning_fabric", "openvino", "matplotlib", "jinja2",
             "safetensors", "scipy"):
    sys.modules[name] = None
import solobox, solobox.data.checks, solobox.synthetic
import solobox.images.drawing, solobox.predict.inputs, solobox.predict.writers
import solobox.cli.check, solobox.cli.download
solobox.Dataset, solobox.Prediction
try:
    solobox.Localizer
except ImportError:
    print("as expected")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "as expected", done.stderr
