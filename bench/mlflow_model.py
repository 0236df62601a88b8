"""Try `solobox.mlflow` with the real MLflow: log, load in a fresh process, predict, compare with `solobox predict`.

MLflow is not among the locked packages: run this in an environment of its own, with Solobox and mlflow.

    python bench/mlflow_model.py model.onnx photo.jpg
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow

import solobox.mlflow

LOAD = """
import base64, json, sys
import mlflow, numpy as np, pandas as pd
from PIL import Image
uri, photo = sys.argv[1:]
content = open(photo, "rb").read()
inline = "data:image/jpeg;base64," + base64.b64encode(content).decode()
pixels = np.asarray(Image.open(photo).convert("RGB"))
table = pd.DataFrame({"image": [photo, content, inline, pixels, "/gone.jpg", "data:image/png;base64,!"]})
rows = mlflow.pyfunc.load_model(uri).predict(table)
print(rows.to_json(orient="records"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    options = parser.parse_args()
    command = [sys.executable, "-m", "solobox", "predict", str(options.model), str(options.photo)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    (expected,) = csv.DictReader(lines)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        experiment = mlflow.create_experiment("try", artifact_location=str(folder / "artifacts"))
        mlflow.set_experiment(experiment_id=experiment)
        info = solobox.mlflow.log_model(options.model)
        saved = folder / "saved"
        solobox.mlflow.save_model(options.model, saved)
        assert not [*saved.rglob("*.pkl")]
        print(info.signature, (saved / "requirements.txt").read_text(), sep="\n")
        for uri in (str(next((folder / "artifacts").rglob("MLmodel")).parent), str(saved)):
            done = subprocess.run(
                [sys.executable, "-c", LOAD, uri, str(options.photo)],
                capture_output=True,
                text=True,
                check=True,
            )
            rows = json.loads(done.stdout.splitlines()[-1])
            for name, row in zip(("path", "bytes", "data URI"), rows, strict=False):
                for column in (key for key in expected if key.startswith(("x", "y"))):
                    assert row[column] == float(expected[column]), (name, column, row, expected)
            difference = max(abs(rows[3][edge] - rows[0][edge]) for edge in ("x1", "y1", "x2", "y2"))
            print(f"{uri}: equal to solobox predict; an array differs by {difference:.2f} px")
            print(f"  {rows[4]['error']}\n  {rows[5]['error']}")


if __name__ == "__main__":
    main()
