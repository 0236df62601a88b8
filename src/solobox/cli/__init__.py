"""The command line: one small file for each command, loaded when it is called."""

import signal
import sys
from importlib.metadata import version

from cyclopts import App, CycloptsError

from solobox.errors import SoloboxError
from solobox.utils.concurrency import processes_have_met

app = App(
    name="solobox",
    help="Find the one thing that matters in each image: check the data, train, measure, predict.",
    version=version("solobox"),
    suppress_keyboard_interrupt=False,  # `main` says that it stopped
)
_COMMANDS = {
    "demo": "The whole job on images that the program draws itself: train, evaluate, predict, report.",
    "check": "What is wrong with labelled images, row by row, and how to fix it.",
    "train": "Train a localizer on labelled images.",
    "evaluate": "How good a trained localizer is, on images that training never saw.",
    "predict": "A box for each image, of images, folders, a clip, a camera or a store of millions.",
    "export": "Write a trained localizer as one ONNX file that runs without PyTorch.",
    "serve": "Serve an exported model over HTTP.",
    "audit": "Which labels look wrong, and a fixed copy.",
    "curve": "Whether more labels would help: the learning curve.",
    "autolabel": "Make first boxes with a ready-made detector.",
    "download": "Download a public data set as labelled images.",
    "summary": "List a model's layers with shapes and costs, and draw it.",
}
"""Each command with its line in `solobox --help`, which loads none of them."""
for _command, _help in _COMMANDS.items():
    app.command(f"solobox.cli.{_command}:{_command}", name=_command, help=_help)


def main() -> None:
    """Run a command; errors for people are printed alone, and leave with status 2."""
    from solobox.cli.console import console

    # A shell starts a script's background jobs, and many CI runners start everything, with SIGINT ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = app(result_action="return_value", exit_on_error=False)
    except CycloptsError:  # it has been printed
        sys.exit(2)
    except SoloboxError as error:
        console.quiet = (
            console.quiet and processes_have_met()
        )  # before that, what is wrong here nobody else knows
        console.print(f"[bold red]error:[/] {_escaped(error)}", soft_wrap=True, highlight=False)
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
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)
    sys.exit(result if isinstance(result, int) else 0)


_EXTRA_OF = {
    **dict.fromkeys(
        ("torch", "timm", "lightning_fabric", "safetensors", "matplotlib", "jinja2", "onnx"), "train"
    ),
    "cv2": "autolabel",
    "openvino": "openvino",
    "av": "video",
    "pyarrow": "parquet",
    **dict.fromkeys(("ray", "fsspec"), "ray"),
}


def _escaped(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))
