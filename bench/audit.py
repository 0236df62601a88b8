"""Wrong labels, and who finds them: `python bench/audit.py [--seeds 3] [--first 0] [--only PART ...] [--env FOLDER]`.

All by out-of-fold predictions at 224 px with two crops per image, five folds; rivals get the same predictions.

injected: Caltech's training part (987 rows) with faults in 15% of its labels, see `faults`: how many of the first 50
and 100 are faulty, the share of all faults in the first 15%, and of what is flagged; and how many of the labels are
flagged as they are. Rivals: 1 - IoU, and cleanlab's object-detection label quality scores (ObjectLab). That library's
licence is another one than ours, so it gets an environment of its own, made by pip in the folder `--env` at the first
use, and talks by files.

haar: the training part's faces as OpenCV's cascade labels them, its first candidate taken, which is wrong in one
image of six. (The largest or surest is wrong in three at most of 348: nothing to find.) Wrong is a box whose IoU with
the human one is below 0.5 once the cascade's habit is corrected: shift and scale, medians over the set. The audit
never sees the human boxes.

merged: the training part's faces, and four images made of two of them side by side, whose label is around both: how
many are flagged, and as what. (With twenty of them the held-out heads learn to draw that box, and agree.)

small: licence plates' training part with faults in 15% of its labels, with default settings, by the first look alone
and with the second one: the out-of-fold IoU with the right labels, and as for `injected` without rivals.

trained: on those labels as they are, on what the audit leaves of them (`audit --fix`), with the model's box in place of
each flagged one, and on those alone that are right by the human boxes; judged on the test part's human boxes after the
same correction.
"""

import argparse
import functools
import subprocess
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from datasets import caltech, plates
from faults import faulty
from solobox import Dataset, Localizer, Recipe, train
from solobox.autolabel import find, label
from solobox.boxes import Floats, iou
from solobox.cli.console import quieten
from solobox.evaluation.audit.decisions import apply_decisions, drop_flagged
from solobox.evaluation.audit.hidden_object import second_prediction
from solobox.evaluation.audit.label_audit import Audit, ErrorKind, audit_labels
from solobox.images.reading import read
from solobox.predict.prediction import Prediction
from solobox.training.crossval import out_of_fold

SETTINGS = {"size": 224, "crops": 2}

_PAIRS = 4
"""Images of two faces under one label: few, so that they are exceptions."""

CLEANLAB = """
import sys
import numpy as np
from cleanlab.object_detection.rank import get_label_quality_scores

data = np.load(sys.argv[1])
labels = [{"bboxes": box[None], "labels": np.array([0])} for box in data["labels"]]
predictions = np.empty(len(labels), dtype=object)
for row, box in enumerate(data["boxes"]):
    # one class, and one box an image, of which the model is sure
    predictions[row] = np.array([np.concatenate([box, [0.99]])[None]])
np.save(sys.argv[2], get_label_quality_scores(labels, list(predictions), verbose=False))
"""


def cleanlab(env: Path, labels: Floats, boxes: Floats) -> Floats:
    """How bad each label is by cleanlab, higher is worse."""
    python = env / "bin" / "python"
    if not python.exists():
        venv.create(env, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "cleanlab"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        data, scores, script = (Path(folder) / name for name in ("data.npz", "scores.npy", "score.py"))
        np.savez(data, labels=labels, boxes=boxes)
        script.write_text(CLEANLAB)
        subprocess.run([python, script, data, scores], check=True)
        return np.asarray(1 - np.load(scores), dtype=np.float64)


def audited(
    dataset: Dataset, seed: int, options: Mapping[str, Any] = SETTINGS
) -> tuple[Audit, tuple[Prediction, ...]]:
    held_out = out_of_fold(dataset, Recipe.from_preset("quick", {"seed": seed, **options}))
    return audit_labels(
        dataset, held_out.predictions, second_prediction(dataset, held_out)
    ), held_out.predictions


def ranked(found: Audit) -> Floats:
    """The audit's scores by row."""
    scores = np.zeros(len(found.findings))
    for finding in found.findings:
        scores[finding.row] = finding.score
    return scores


Row = dict[str, float]


def against_rivals(
    dataset: Dataset,
    wrong: np.ndarray,
    seed: int,
    env: Path,
    budget: int,
    known: tuple[Audit, tuple[Prediction, ...]],
) -> dict[str, Row]:
    """Each method's figures."""
    found, predictions = known
    boxes = np.stack([prediction.box for prediction in predictions])
    rows = {}
    scores = {
        "this audit": ranked(found),
        "1 - IoU": 1 - iou(dataset.boxes, boxes),
        "cleanlab": cleanlab(env, dataset.boxes, boxes),
    }
    for name, score in scores.items():
        order = np.argsort(-score, kind="stable")
        rows[name] = {
            "p50": float(wrong[order[:50]].mean()),
            "p100": float(wrong[order[:100]].mean()),
            "recall": float(wrong[order[:budget]].sum() / wrong.sum()),
        }
    flagged = [finding.row for finding in found.flagged]
    rows["this audit"] |= {
        "flagged": len(flagged) / len(dataset),
        "flagged right": float(wrong[flagged].mean()) if flagged else np.nan,
        "flagged of all": float(wrong[flagged].sum() / wrong.sum()),
    }
    kinds = Counter(finding.kind.value for finding in found.flagged if wrong[finding.row])
    print(f"  seed {seed}: wrong and flagged: {dict(kinds.most_common())}", flush=True)
    return rows


def injected(seeds: Sequence[int], env: Path) -> None:
    training, _ = caltech()
    results = []
    for seed in seeds:
        dataset, kinds = faulty(training, seed)
        wrong = np.array([bool(kind) for kind in kinds])
        known = audited(dataset, seed)
        results.append(against_rivals(dataset, wrong, seed, env, round(0.15 * len(dataset)), known))
    table("injected faults, Caltech's training part; recall in the first 15%", results)
    flagged = audited(training, seeds[0])[0].flagged
    print(
        f"flagged of the labels as they are, seed {seeds[0]}: {len(flagged)} of {len(training)}\n", flush=True
    )


def small(seeds: Sequence[int]) -> None:
    training, _ = plates()
    results: list[dict[str, Row]] = []
    for seed in seeds:
        dataset, kinds = faulty(training, seed)
        wrong = np.array([bool(kind) for kind in kinds])
        rows: dict[str, Row] = {}
        for name, refine in ("first look alone", "off"), ("with the second look", "auto"):
            started = time.process_time()
            found, predictions = audited(dataset, seed, {"refine": refine})
            seconds = time.process_time() - started
            order = np.argsort(-ranked(found), kind="stable")
            flagged = [finding.row for finding in found.flagged]
            overlap = iou(np.stack([one.box for one in predictions]), training.boxes)
            rows[name] = {
                "IoU": float(overlap.mean()),
                "recall": float(wrong[order[: wrong.sum()]].mean()),
                "flagged": len(flagged) / len(dataset),
                "flagged right": float(wrong[flagged].mean()) if flagged else np.nan,
                "flagged of all": float(wrong[flagged].sum() / wrong.sum()),
                "CPU s": seconds,
            }
        results.append(rows)
    table("plates, faults in 15%; recall in the first as many as are wrong", results)


@functools.cache
def haar_faces() -> tuple[Dataset, Dataset, Floats, Floats]:
    """Faces with the cascade's boxes, the test faces with human ones, the correction, and the human boxes."""
    training, test = (part.select(np.array([text == "face" for text in part.label])) for part in caltech())
    found = list(label(training.paths, find("haar:frontalface"), workers=1))
    rows = [row for row, one in enumerate(found) if one.candidates]
    human = training.boxes[rows]
    boxes = np.array([found[row].candidates[0].box for row in rows])
    some = training.select(rows)
    labelled = Dataset(some.images, boxes, names=some.names, where=some.where)
    correction = np.median((human - boxes) / sides(boxes), axis=0)
    return labelled, test, correction, human


@functools.cache
def haar_audit(seed: int) -> tuple[Audit, tuple[Prediction, ...]]:
    """Two parts of this bench look at it."""
    return audited(haar_faces()[0], seed)


def sides(boxes: Floats) -> Floats:
    return np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def corrected(boxes: Floats, correction: Floats) -> Floats:
    """The cascade's habit (its square ends at the eyebrows) undone: each edge moved by a share of the side."""
    return boxes + correction * sides(boxes)


def haar(seeds: Sequence[int], env: Path) -> None:
    dataset, _, correction, human = haar_faces()
    wrong = iou(corrected(dataset.boxes, correction), human) < 0.5
    count = int(wrong.sum())
    results = [against_rivals(dataset, wrong, seed, env, count, haar_audit(seed)) for seed in seeds]
    table(
        f"the cascade's first candidate, {len(dataset)} faces, {int(wrong.sum())} wrong; recall in the first as many",
        results,
    )


def merged(seeds: Sequence[int]) -> None:
    training, _ = caltech()
    faces = training.select(np.array([text == "face" for text in training.label]))
    for seed in seeds:
        order = np.random.default_rng([seed, 78]).permutation(len(faces))
        pairs, rest = order[: 2 * _PAIRS].reshape(_PAIRS, 2).tolist(), np.sort(order[2 * _PAIRS :])
        with tempfile.TemporaryDirectory() as folder:
            images, boxes = zip(
                *(side_by_side(faces, pair, Path(folder) / f"{at}.png") for at, pair in enumerate(pairs)),
                strict=True,
            )
            some = faces.select(rest)
            dataset = Dataset(
                (*images, *some.images),
                np.concatenate([boxes, some.boxes]),
                names=map(str, range(len(rest) + _PAIRS)),
            )
            found, _ = audited(dataset, seed)
        kinds = Counter(finding.kind.value for finding in found.findings if finding.row < _PAIRS)
        others = sum(finding.kind is ErrorKind.MERGED for finding in found.findings if finding.row >= _PAIRS)
        print(
            f"two faces under one label, seed {seed}, {_PAIRS} of {len(dataset)}: {dict(kinds.most_common())}; ",
            end="",
        )
        print(f"of the other faces {others} called merged", flush=True)
    print()


def side_by_side(faces: Dataset, pair: Sequence[int], path: Path) -> tuple[Path, Floats]:
    """An image of two, the second one scaled to the first one's height, and the box around both faces."""
    left, right = (Image.fromarray(read(faces.paths[row]).pixels) for row in pair)
    factor = left.height / right.height
    right = right.resize((round(right.width * factor), left.height))
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    both.save(path)
    first, second = (
        faces.boxes[pair[0]],
        faces.boxes[pair[1]] * factor + np.array([left.width, 0, left.width, 0]),
    )
    return path, np.concatenate([np.minimum(first[:2], second[:2]), np.maximum(first[2:], second[2:])])


def trained(seeds: Sequence[int]) -> None:
    dataset, test, correction, human = haar_faces()
    right = iou(corrected(dataset.boxes, correction), human) >= 0.5
    results = []
    for seed in seeds:
        found, _ = haar_audit(seed)
        boxes = dataset.boxes.copy()
        for finding in found.flagged:
            boxes[finding.row] = finding.predicted
        with tempfile.TemporaryDirectory() as folder:
            clean = Dataset.read(
                apply_decisions(dataset, drop_flagged(found, dataset), Path(folder) / "clean.csv").out
            )
            paths = {image.resolve() for image in clean.paths}
        left = dataset.select(np.array([image.resolve() in paths for image in dataset.paths]))
        arms = {
            "as they are": dataset,
            "flagged left out (--fix)": left,
            "the model's box for flagged": Dataset(dataset.images, boxes, names=dataset.names),
            "right ones alone": dataset.select(right),
        }
        results.append({name: judged(arm, test, correction, seed) for name, arm in arms.items()})
    table(f"trained on the cascade's labels, judged on {len(test)} human ones", results)


def judged(dataset: Dataset, test: Dataset, correction: Floats, seed: int) -> Row:
    recipe = Recipe.from_preset("quick", {"seed": seed, "test": 0.0, **SETTINGS})
    with tempfile.TemporaryDirectory() as folder:
        train(dataset, Path(folder) / "run", recipe)
        found = Localizer.load(Path(folder) / "run").predict(list(test.images))
    overlap = iou(corrected(np.stack([one.box for one in found]), correction), test.boxes)
    return {
        "n": len(dataset), "mean IoU": float(overlap.mean()), "IoU>=.5": float((overlap >= 0.5).mean()),
        "IoU>=.75": float((overlap >= 0.75).mean()),
    }  # fmt: skip


def table(title: str, results: Sequence[dict[str, Row]]) -> None:
    print(title)
    for name in results[0]:
        cells = [f"{key} {spoken([result[name][key] for result in results])}" for key in results[0][name]]
        print(f"  {name:28s} " + "  ".join(cells))
    print(flush=True)


def spoken(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--first", type=int, default=0, help="the first seed; what was tuned was tuned from 10 on"
    )
    parser.add_argument("--only", nargs="*", choices=("injected", "small", "haar", "merged", "trained"))
    parser.add_argument("--env", type=Path, default=Path("runs/cleanlab"))
    arguments = parser.parse_args()
    quieten()
    cv2.setNumThreads(1)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    parts: dict[str, Callable[[], None]] = {
        "injected": lambda: injected(seeds, arguments.env),
        "small": lambda: small(seeds),
        "haar": lambda: haar(seeds, arguments.env),
        "merged": lambda: merged(seeds),
        "trained": lambda: trained(seeds),
    }
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, seeds {[*seeds]}: mean ± spread (s.d.)"
    )
    for name, part in parts.items():
        if not arguments.only or name in arguments.only:
            part()


if __name__ == "__main__":
    main()
