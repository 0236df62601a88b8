"""Seconds from `git clone` to the tutorial's end: `python bench/tutorial.py`.

Clones this repository, as it was last committed, into an empty folder, and does what docs/tutorial/index.md says, word
for word, in one shell after the other; the server is asked until it answers, and then stopped.
"""

import re
import shlex
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def steps(text: str) -> list[str]:
    """The commands, and each block of Python as one command."""
    found = []
    for kind, block in BLOCK.findall(text):
        if kind == "python":
            found.append(f"python - <<'END'\n{block}END")
        else:
            found += [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    return found


def shell(command: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Begin a command in a shell, with the environment of the clone if there is one."""
    activate = "if [ -d .venv ]; then source .venv/bin/activate; fi"
    return subprocess.Popen(
        ["/bin/bash", "-c", f"{activate}\n{command}"], cwd=folder, stdout=subprocess.DEVNULL
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "solobox"
        started = lap = time.perf_counter()
        assert not shell(f"git clone --quiet {shlex.quote(str(ROOT))} solobox", Path(folder)).wait()
        server = None
        for step in steps((clone / "docs" / "tutorial" / "index.md").read_text(encoding="utf-8")):
            if step.startswith("source"):
                continue  # every shell does
            if " serve " in step:
                server = shell(f"exec {step}", clone)
                continue
            again = "curl --fail --retry 60 --retry-delay 1 --retry-connrefused "
            process = shell(step.replace("curl ", again), clone)
            if process.wait():
                raise SystemExit(f"it failed: {step}")
            now = time.perf_counter()
            print(f"{now - lap:7.1f} s  {step.splitlines()[0]}", flush=True)
            lap = now
        print(f"{time.perf_counter() - started:7.1f} s  in all")
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait()


if __name__ == "__main__":
    main()
