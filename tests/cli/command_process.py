"""Commands in processes of their own that need not import PyTorch first, which takes seconds each time.

They are forked from one process for each process of the tests that has imported it, and does nothing else. Tests of
what a start imports, of signals and of streams start processes in the ordinary way.
"""

import atexit
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from unittest.mock import patch

_PROGRAM = """
import json, os, sys
import solobox.api, solobox.evaluation.report, solobox.export, solobox.training.train
assert "solobox.cli" not in sys.modules
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if not child:
        sys.argv = ["solobox", *request["words"]]
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        for number, name in enumerate((os.devnull, request["out"], request["err"])):
            file = os.open(name, os.O_RDWR)
            os.dup2(file, number)
            os.close(file)
        if request["brief"]:
            from solobox.config import recipe
            from solobox.model import runtime
            recipe._MIN_CROPS = recipe._MIN_STEPS = 1
            runtime._openvino_is_installed = lambda: False
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
from solobox.cli import main
main()
"""


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(server.kill)
    return server


def solobox(*words: str | Path, brief: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command and wait for it. environment: further variables.

    brief: in PyTorch, and without the crops and epochs that small training sets get beyond those of the recipe.
    """
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    arguments = [*map(str, words)]
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        request = {
            "words": arguments, "environment": os.environ | {"COLUMNS": "150"} | environment,
            "folder": str(Path.cwd()), "out": out.name, "err": err.name, "brief": brief,
        }  # fmt: skip
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        texts = (Path(file.name).read_text(encoding="utf-8") for file in (out, err))
        return subprocess.CompletedProcess(arguments, status, *texts)


def solobox_here(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, for what is refused before anything is done."""
    from solobox.cli import main

    arguments, out, err = [*map(str, words)], io.StringIO(), io.StringIO()
    status: object = 0
    with (
        patch.object(sys, "argv", ["solobox", *arguments]), patch.dict(os.environ, COLUMNS="150"),
        contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings(),
    ):  # fmt: skip
        warnings.filterwarnings("ignore", "Cyclopts application invoked without tokens under unit-test")
        try:
            main()
        except SystemExit as stop:
            status = stop.code
    assert isinstance(status, int)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())
