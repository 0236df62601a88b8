"""Each command says what it does before it imports what takes long; errors in the data come before PyTorch."""

import json
import subprocess
import sys
from pathlib import Path

COMMANDS = {
    "train": ["labels.csv", "-o", "run"],
    "check": ["labels.csv"],
    "convert": ["labels.csv", "out.json", "--to", "coco"],
    "evaluate": ["run", "labels.csv"],
    "audit": ["labels.csv"],
    "curve": ["labels.csv"],
    "export": ["run", "-o", "model.onnx", "--check", "labels.csv"],
    "predict": ["run", "images"],
    "push": ["run", "me/plates"],
    "serve": ["model.onnx"],
    "summary": ["run"],
}

FIRST_LINES = """
import json, sys
from solobox.cli import main

class Stop(BaseException):
    pass

class Errors:
    encoding = "utf-8"
    def write(self, text):
        raise Stop(text)
    def flush(self):
        pass
    def isatty(self):
        return False

errors, sys.stderr = sys.stderr, Errors()
lines = {}
for command, words in json.loads(sys.argv[1]).items():
    sys.argv[1:] = [command, *words]
    try:
        main()
    except Stop as stop:
        lines[command] = str(stop), sorted({"numpy", "PIL", "torch", "onnxruntime", "fastapi"} & set(sys.modules))
sys.stderr = errors
print(json.dumps(lines))
"""

REFUSED = """
import sys
from solobox.cli import main
sys.argv[1:] = ["train", sys.argv[1], "-o", "run"]
try:
    main()
finally:
    print("torch" in sys.modules)
"""


def test_the_first_line_comes_before_the_large_imports() -> None:
    words = [sys.executable, "-c", FIRST_LINES, json.dumps(COMMANDS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout)
    for command, arguments in COMMANDS.items():
        line, loaded = lines[command]
        assert line.startswith(("reading labels.csv", f"loading {arguments[0]}")), (command, line)
        assert loaded == [], command


def test_errors_in_the_data_are_told_without_torch(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,x1,y1,x2,y2\nnone.jpg,5,5,1,1\n")
    words = [sys.executable, "-c", REFUSED, str(tmp_path / "labels.csv")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "error[data-errors]" in done.stderr
    assert done.stdout.split() == ["False"]
