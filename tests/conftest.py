import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


LONG = (
    "test_readme.py", "test_exporting.py", "test_export.py", "test_whole_session.py", "test_snippets.py",
    "test_commands.py",
    "test_distributed.py", "test_annotate_page.py", "test_self_training.py", "test_signals.py", "test_train.py",
    "test_resume.py", "test_on_ray.py", "test_localizer.py", "test_training.py", "test_models.py",
    "test_outputs.py", "test_refining.py", "test_refined_folds.py", "test_calibrate.py", "test_crossval.py",
    "test_audit_command.py", "test_serve_command.py", "test_predict_on_ray.py", "test_parity.py",
    "test_hub.py", "test_notebooks.py", "test_site.py",
)  # fmt: skip
"""Files that take the longest, the longest first: begun last, one processor would wait for the other's."""


# `nohup make test &` and many CI runners start this with SIGINT ignored. The processes that tests start and interrupt
# would inherit that; a handler, unlike that, is not inherited.
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images beside the project."""
    if not REAL.is_dir():
        pytest.skip(f"the real images are not here: {REAL} does not exist")
    return REAL


@pytest.fixture(scope="module")
def without_openvino() -> Iterator[None]:
    """Backbones run in PyTorch, in this process: compiling one takes longer than training on a few small images."""
    from solobox.model import runtime

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "_openvino_is_installed", lambda: False)
        yield


@pytest.fixture(scope="module")
def few_steps() -> Iterator[None]:
    """In this process, recipes train as few crops and epochs as they say, though the training set is small."""
    from solobox.config import recipe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "_MIN_CROPS", 1)
        patch.setattr(recipe, "_MIN_STEPS", 1)
        yield


@pytest.fixture(scope="module")
def half_the_steps() -> Iterator[None]:
    """In this process, small training sets get half of their crops and steps: enough for what is large and bright."""
    from solobox.config import recipe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "_MIN_CROPS", recipe._MIN_CROPS // 2)
        patch.setattr(recipe, "_MIN_STEPS", recipe._MIN_STEPS // 2)
        yield


@pytest.fixture(scope="session")
def exported_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`exported_models.usual_localizer` as ONNX, not to be changed: tracing takes long, so once for all processes."""
    from exported_models import usual_localizer

    from solobox.export import export

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "exported" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            export(usual_localizer(), path)
    return path
