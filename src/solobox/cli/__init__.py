"""The command line: one small file for each command, loaded when it is called."""

import sys
from importlib.metadata import version

from cyclopts import App, CycloptsError

from solobox.errors import SoloboxError
from solobox.machine import processes_have_met

app = App(
    name="solobox",
    help="Find the one thing that matters in each picture: check the data, train, measure, predict.",
    version=version("solobox"),
    suppress_keyboard_interrupt=False,  # `main` says that it stopped
)
_COMMANDS = (
    "demo",
    "fetch",
    "label",
    "check",
    "train",
    "curve",
    "audit",
    "evaluate",
    "predict",
    "export",
    "serve",
    "summary",
)
for _command in _COMMANDS:
    app.command(f"solobox.cli.{_command}:{_command}", name=_command)


def main() -> None:
    """Run a command; errors for people are printed alone, and leave with status 2."""
    from solobox.cli.console import console

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
    "cv2": "label",
    "openvino": "openvino",
    "av": "video",
    "pyarrow": "parquet",
    **dict.fromkeys(("ray", "fsspec"), "cluster"),
}


def _escaped(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))
