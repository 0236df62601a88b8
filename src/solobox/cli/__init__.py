"""The command line: one module for each command, imported when the command runs."""

import errno
import io
import os
import sys
from contextlib import suppress
from importlib.metadata import version

from cyclopts import App, CycloptsError

from solobox.errors import SoloboxError
from solobox.utils.concurrency import is_distributed
from solobox.utils.signals import exit_status, interruptible

app = App(
    name="solobox",
    help="Train a localizer that finds one object per image: check the data, train, evaluate, predict.",
    version=version("solobox"),
    suppress_keyboard_interrupt=False,  # `main` reports it
)
_COMMANDS = {
    "demo": "Try everything on drawn images: train, evaluate, predict.",
    "check": "Check labelled images: what is wrong, and how to fix it.",
    "convert": "Write labelled images in another annotation format.",
    "annotate": "Draw boxes on a few images; a model learns and draws the others.",
    "train": "Train a localizer on labelled images.",
    "evaluate": "Evaluate a trained localizer on labelled images.",
    "predict": "Predict a box for each image, or for the frames of a video.",
    "export": "Export a trained localizer to ONNX: it runs without PyTorch.",
    "push": "Push a trained localizer to the Hugging Face Hub, with a model card.",
    "serve": "Serve an exported model over HTTP.",
    "audit": "Find labels that look wrong, and write a corrected copy.",
    "curve": "Learning curve: find out whether more labels would help.",
    "autolabel": "Label images with a pretrained detector.",
    "download": "Download a public data set of labelled images.",
    "summary": "List a model's layers with shapes and costs; draw them.",
}
"""Each command with its line in `solobox --help`, which imports none of them."""
for _command, _help in _COMMANDS.items():
    # The help of the command itself is its whole docstring, which a help text here would replace.
    _list_help = None if sys.argv[1:2] == [_command] else _help
    app.command(f"solobox.cli.{_command}:{_command}", name=_command, help=_list_help)
app.register_install_completion_command(help="Install completion for this shell: bash, zsh or fish.")


def main() -> None:
    """Run a command. A SoloboxError is printed as one line with its code, without a traceback; exit status 2.

    Ctrl-C and SIGTERM end every command alike, after what it has begun is closed or removed: exit status 130 and 143.
    So does a reader of the output that ends first, as in `solobox check ... | head -1`: nothing is said, status 141.
    """
    try:
        _run()
    except BrokenPipeError:
        _drop_output()
        sys.exit(128 + 13)


def _run() -> None:
    from rich.markup import escape

    from solobox.cli.console import console, out

    if sys.stdout is None:  # closed by the shell: >&-
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what its encoding does not
        sys.stdout.reconfigure(errors="backslashreplace")
    app.console, app.error_console = out, console
    try:
        with interruptible():
            result = app(result_action="return_value", exit_on_error=False)
            sys.stdout.flush()  # here an error can still be told
    except CycloptsError:  # cyclopts has printed it
        sys.exit(2)
    except SoloboxError as error:
        # Of several processes only the main one prints; before they have connected, each has its own errors.
        console.quiet = console.quiet and is_distributed()
        text = f"[bold red]error[/]{escape(f'[{error.code}]')}: {escape(str(error))}"
        console.print(text, soft_wrap=True, highlight=False)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA_OF:
            raise
        console.print(
            f"[bold red]error:[/] this command needs {error.name}: "
            f"install Solobox with its \\[{_EXTRA_OF[error.name]}] extra",
            soft_wrap=True,
        )
        sys.exit(2)
    except KeyboardInterrupt as stop:
        console.print("stopped")
        sys.exit(exit_status(stop))
    except OSError as error:
        if error.errno not in _DISK:
            raise
        with suppress(OSError):
            sys.stdout.flush()
        _drop_output()
        where = f" ({error.filename})" if error.filename else ""
        console.print(
            f"[bold red]error[/]\\[disk-full]: {escape(f'a file cannot be written{where}: {error.strerror}')}. "
            "Make room or choose another disk; a temporary folder is named by TMPDIR",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
        sys.exit(2)
    sys.exit(result if isinstance(result, int) else 0)


def _drop_output() -> None:
    """Or Python's flush at exit fails again."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

_EXTRA_OF = {
    **dict.fromkeys(
        ("torch", "timm", "lightning_fabric", "safetensors", "matplotlib", "jinja2", "onnx"), "train"
    ),
    "cv2": "autolabel",
    "openvino": "openvino",
    "av": "video",
    "pyarrow": "parquet",
    "huggingface_hub": "hub",
    **dict.fromkeys(("ray", "fsspec"), "ray"),
}
