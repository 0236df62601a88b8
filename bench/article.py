"""Training throughput against the tutorial's own pipeline: `python bench/article.py [--rounds 3] [--images 96]`.

The tutorial's model and step (ResNet-50 at 300 x 300, a convolution of 1024, average pooling, 512, 4, MSE, Adam,
batches of 16, tf.data from JPEG files) in Keras on tensorflow-cpu, and the same model here (`--recipe article`), both
with random weights on the same images on disk. Keras trains in two ways: `fit`, which compiles the step, and a loop
with a gradient tape as tutorials write it, which does not. Images a second from files, over `--epochs` epochs after
one to warm up; runs are interleaved, and the ratio of each pair is what counts. TensorFlow gets an environment of
its own, made by pip in the folder `--env` at the first use.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import venv
from pathlib import Path

from datasets import caltech, some

KERAS = """
import csv, json, os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
import tensorflow as tf

listing, epochs, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rows = [row for row in csv.DictReader(open(listing)) if row["split"] == "train"]
paths = [row["image"] for row in rows]
boxes = np.array([[float(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in rows], "float32")

def load(path, box):
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    image = tf.image.resize(image, (300, 300)) / 127.0 - 1.0
    return image, box / tf.stack([shape[1], shape[0], shape[1], shape[0]])

data = tf.data.Dataset.from_tensor_slices((paths, boxes)).shuffle(len(paths), seed=0)
data = data.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(16, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
backbone = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(300, 300, 3))
model = keras.Sequential([
    backbone, keras.layers.Conv2D(1024, 3, strides=2, padding="same", activation="relu"),
    keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(512, activation="relu"), keras.layers.Dense(4),
])
optimizer = keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.0003, 3600, 0.8, staircase=True))

def loop():
    marks = []
    for _ in range(1 + epochs):
        for images, wanted in data:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(images, training=True) - wanted))
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        marks.append(time.perf_counter())
    return marks

def fit():
    marks = []
    mark = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: marks.append(time.perf_counter()))
    model.compile(optimizer, loss="mse")
    model.fit(data, epochs=1 + epochs, verbose=0, callbacks=[mark])
    return marks

# the first epoch traces and compiles
first, *_, last = {"fit": fit, "loop": loop}[way]()
seconds = last - first
print(json.dumps({"rate": len(paths) // 16 * 16 * epochs / seconds}))
"""


def ours(listing: Path, epochs: int, precision: str) -> None:
    """In a process of its own: from the first file that is opened to the last step."""
    import tempfile

    from solobox import Dataset, Recipe, train
    from solobox.cli.console import quieten

    quieten()
    dataset = Dataset.read(listing)
    recipe = Recipe.from_preset(
        "article", {"pretrained": "none", "test": 0.0, "finetune_epochs": epochs, "precision": precision}
    )
    with tempfile.TemporaryDirectory() as folder:
        model = train(dataset, Path(folder) / "run", recipe)
    metadata = model.metadata
    seconds, history = metadata["seconds"], metadata["history"]
    assert isinstance(seconds, dict)
    assert isinstance(history, list)
    # Decoding is done once, before the first epoch; the steps' own seconds leave validation out, as Keras does here.
    taken = seconds["images"] + sum(line["seconds"] for line in history)
    count = sum(split == "train" for split in dataset.split)
    print(json.dumps({"rate": count * epochs / taken}))


def child(*words: str | Path) -> dict[str, object]:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    found: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--env", type=Path, default=Path("runs/tensorflow"))
    parser.add_argument(
        "--ours", nargs=2, default=None, metavar=("LISTING", "PRECISION"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.ours:
        ours(Path(arguments.ours[0]), arguments.epochs, arguments.ours[1])
        return
    python = arguments.env / "bin" / "python"
    if not python.exists():
        venv.create(arguments.env, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "tensorflow-cpu"], check=True)
    training, _ = caltech()
    rows = some(training, arguments.images + 2, 0)
    listing = arguments.env / "images.csv"
    with listing.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "x1", "y1", "x2", "y2", "split"])
        for index, (image, box) in enumerate(zip(rows.paths, rows.boxes.tolist(), strict=True)):
            writer.writerow([image.resolve(), *box, "train" if index < arguments.images else "val"])
    (arguments.env / "keras_side.py").write_text(KERAS)
    precisions, ways = ("bf16-mixed", "32-true"), ("fit", "loop")
    ratios: dict[tuple[str, str], list[float]] = {}
    for _ in range(arguments.rounds):
        theirs = {
            way: rate(child(python, arguments.env / "keras_side.py", listing, str(arguments.epochs), way))
            for way in ways
        }
        own = {
            precision: rate(
                child(
                    sys.executable, __file__, "--ours", listing, precision, "--epochs", str(arguments.epochs)
                )
            )
            for precision in precisions
        }
        for precision in precisions:
            for way in ways:
                ratios.setdefault((precision, way), []).append(own[precision] / theirs[way])
        both = {**theirs, **own}
        print("images/s: " + ", ".join(f"{name} {value:.2f}" for name, value in both.items()), flush=True)
    for (precision, way), found in ratios.items():
        print(f"{precision} against {way}: median ratio {statistics.median(found):.2f}")


def rate(report: dict[str, object]) -> float:
    return float(str(report["rate"]))


if __name__ == "__main__":
    main()
