"""Unlabelled images: the surest half counts, copies of held-out images do not, and the command goes on where it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from error_codes import has_code
from solobox import synthetic
from solobox.cli import app
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.sample import PREDICTED
from solobox.errors import ConfigError, DataError, SoloboxError
from solobox.model.localizer import Localizer
from solobox.training.run_folder import PSEUDO_LABELS
from solobox.training.self_training import self_train, teacher_folder, with_pseudo_labels
from solobox.training.train import train
from solobox.utils.progress import NullProgress

pytestmark = pytest.mark.usefixtures("without_openvino", "few_steps")

BRIEF = {"size": 64, "crops": 1, "epochs": 1, "batch": 16, "refine": "off", "test": 0.2, "val": 0.2}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return synthetic.write(tmp_path_factory.mktemp("drawn"), 30, seed=4, size=(96, 72))


@pytest.fixture(scope="module")
def labelled(drawn: Dataset) -> Dataset:
    return drawn.select(np.arange(12)).with_splits(val=0.2, test=0.2)


@pytest.fixture(scope="module")
def teacher(labelled: Dataset, tmp_path_factory: pytest.TempPathFactory, without_openvino: None) -> Localizer:
    return train(labelled, tmp_path_factory.mktemp("teacher") / "run", Recipe.from_preset("quick", BRIEF))


def test_the_surest_half_of_the_others_is_trained_on(
    labelled: Dataset, drawn: Dataset, teacher: Localizer
) -> None:
    others = list(drawn.images[8:])  # four of them are labelled too
    both = with_pseudo_labels(labelled, others, teacher)
    added = both.select(np.arange(len(labelled), len(both)))
    assert both.select(np.arange(len(labelled))).same_images(labelled)
    assert set(added.source) == {PREDICTED}
    assert set(added.split) == {"train"}
    assert len(added) == 9
    assert set(added.images) <= set(drawn.images[12:])
    found = {image: teacher.predict(image) for image in drawn.images[12:]}
    doubt = {
        image: each.std.mean() / np.sqrt(np.prod(each.box[2:] - each.box[:2]))
        for image, each in found.items()
    }
    assert set(added.images) == set(sorted(doubt, key=lambda image: doubt[image])[:9])
    np.testing.assert_allclose(added.boxes[0], found[added.images[0]].box, atol=0.01)


def test_copies_of_held_out_images_are_not_learned_from(
    labelled: Dataset, drawn: Dataset, teacher: Localizer, tmp_path: Path
) -> None:
    held_out = [
        image for image, split in zip(labelled.paths, labelled.split, strict=True) if split != "train"
    ]
    copies = []
    for number, path in enumerate(held_out):
        copies.append(tmp_path / f"copy-{number}.jpg")
        copies[-1].write_bytes(path.read_bytes())
    both = with_pseudo_labels(labelled, [*copies, *drawn.images[12:14]], teacher)
    assert not set(copies) & set(both.images)
    with pytest.raises(DataError, check=has_code("no-images")):
        with_pseudo_labels(labelled, copies, teacher)


def test_the_student_validates_on_labelled_images_alone(
    labelled: Dataset, drawn: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    student = self_train(labelled, list(drawn.images[12:]), out, Recipe.from_preset("quick", BRIEF))
    counts: dict[str, int] = student.metadata["counts"]  # type: ignore[assignment]
    held_out = [labelled.split.count(name) for name in ("val", "test")]
    assert [counts["val"], counts["test"]] == held_out
    assert counts["train"] == labelled.split.count("train") + 9
    assert Localizer.load(teacher_folder(out)).metadata["counts"] != counts


@pytest.mark.parametrize(
    "change", [{"devices": 2}, {"head": "regression", "vectorizer": "gap", "loss": "mse"}]
)
def test_recipes_that_cannot(labelled: Dataset, tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, check=has_code("options-conflict")):
        self_train(labelled, [], tmp_path / "run", Recipe.from_preset("quick", BRIEF | change))


def test_processes_that_torchrun_started(
    labelled: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would train a teacher, and all would write the same files."""
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, check=has_code("options-conflict")):
        self_train(labelled, [], tmp_path / "run", Recipe.from_preset("quick", BRIEF))


def test_urls_are_refused_at_once(labelled: Dataset, tmp_path: Path) -> None:
    url = "https://example.org/photo.jpg"
    with pytest.raises(ConfigError, check=has_code("options-conflict")):
        self_train(labelled, [url], tmp_path / "run", Recipe.from_preset("quick", BRIEF))
    labelled.write(tmp_path / "labels.csv")
    (tmp_path / "list.txt").write_text(f"{url}\n")
    for word in (url, "s3://bucket/photos", tmp_path / "list.txt"):
        with pytest.raises(ConfigError, check=has_code("options-conflict")):
            run("train", tmp_path / "labels.csv", "-o", tmp_path / "run", "--unlabelled", word)
    assert not teacher_folder(tmp_path / "run").exists()


def test_what_cannot_be_read_is_counted(
    labelled: Dataset, drawn: Dataset, teacher: Localizer, tmp_path: Path
) -> None:
    class Listener(NullProgress):
        said = ""

        def say(self, text: str) -> None:
            self.said += f"{text}\n"

    (tmp_path / "broken.jpg").write_bytes(b"no image")
    others = [tmp_path / "missing.jpg", tmp_path / "broken.jpg", *drawn.images[12:20]]
    listener = Listener()
    both = with_pseudo_labels(labelled, others, teacher, progress=listener)
    assert len(both) == len(labelled) + 4
    assert f"2 unlabelled images cannot be read, such as: {tmp_path / 'missing.jpg'}" in listener.said


def run(*arguments: object) -> object:
    return app([str(each) for each in arguments], result_action="return_value", exit_on_error=False)


def test_the_command_goes_on_with_a_finished_teacher(
    labelled: Dataset, drawn: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "labels.csv", tmp_path / "run"
    replace(labelled, split=("",) * len(labelled)).write(data)
    listed = tmp_path / "others.txt"
    listed.write_text("\n".join(str(image) for image in drawn.images[12:]))
    options = [f"--{name}={value}" for name, value in BRIEF.items()]
    assert run("train", data, "-o", out, "--unlabelled", listed, *options) == 0
    labels = teacher_folder(out) / PSEUDO_LABELS
    assert Dataset.read(labels).source.count(PREDICTED) == 9
    with pytest.raises(SoloboxError, check=has_code("output-in-run")):
        run("audit", data, "--fix", labels, "-o", tmp_path / "audit", "--overwrite")
    first = (out / "model.safetensors").read_bytes()
    for path in out.iterdir():
        path.unlink()
    capsys.readouterr()
    assert run("train", data, "-o", out, "--unlabelled", listed, *options) == 0
    assert "is not trained again" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == first
    for path in out.iterdir():
        path.unlink()
    with pytest.raises(SoloboxError, check=has_code("run-exists")):  # a teacher of another recipe
        run("train", data, "-o", out, "--unlabelled", listed, *options, "--width=16")
    with pytest.raises(SoloboxError, check=has_code("options-conflict")):
        run("train", "--resume", out, "--unlabelled", listed)
