import importlib.metadata
import inspect
import pkgutil
import subprocess
import sys

import solobox

NAMES = [
    "Architecture",
    "ConfigError",
    "DataError",
    "Dataset",
    "Diagnosis",
    "ImageError",
    "Localizer",
    "OnnxModel",
    "Paused",
    "PredictOptions",
    "Prediction",
    "Recipe",
    "Sample",
    "SoloboxError",
    "annotate",
    "audit",
    "check",
    "draw",
    "evaluate",
    "learning_curve",
    "load",
    "self_train",
    "train",
    "write_report",
]


def test_the_public_names_are_these() -> None:
    assert sorted(solobox.__all__) == NAMES
    assert dir(solobox) == sorted([*NAMES, "__version__"])
    for name in NAMES:
        assert getattr(solobox, name) is not None


def test_the_version_is_that_of_the_package() -> None:
    assert solobox.__version__ == importlib.metadata.version("solobox")


def test_every_public_name_is_explained() -> None:
    for name in NAMES:
        assert (inspect.getdoc(getattr(solobox, name)) or "").strip(), name


def test_no_module_hides_a_public_name() -> None:
    """An imported module becomes an attribute of its package, and would replace a function of its name."""
    assert {each.name for each in pkgutil.iter_modules(solobox.__path__)}.isdisjoint(NAMES)


def test_the_import_is_light() -> None:
    code = "import sys, solobox; print(*sorted({'numpy', 'PIL', 'torch', 'rich', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


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
solobox.Dataset, solobox.Prediction, solobox.check, solobox.draw, solobox.load
try:
    solobox.Localizer
except ImportError:
    print("as expected")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "as expected", done.stderr
