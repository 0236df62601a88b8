"""The end: commands one after the other, what they say, and what happens when one fails."""

from pathlib import Path

import pytest
from folders import draw, folder_of, learner_of, opened, wait_until

from solobox.annotation.finish import Finish, Plan
from solobox.data.dataset import Dataset
from solobox.predict.prediction import Prediction


def test_names_are_free_and_made_from_the_labels(tmp_path: Path) -> None:
    labels = tmp_path / "cats.csv"
    assert Plan.beside(labels).run == tmp_path / "cats-model"
    (tmp_path / "cats-model.onnx").touch()
    second = Plan.beside(labels)
    assert [path.name for path in (second.run, second.report, second.exported)] == [
        "cats-model-2", "cats-model-2.html", "cats-model-2.onnx",
    ]  # fmt: skip
    words = [" ".join(command) for command in second.commands()]
    assert words[0] == f"train {labels} -o {second.run}"
    assert words[1] == f"evaluate {second.run} {labels} --report {second.report}"
    assert words[2] == f"export {second.run} -o {second.exported}"


def test_a_command_that_fails_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "commands", lambda _: [["--version"], ["check", "nowhere.csv"], ["--version"]])
    session = opened(folder_of(tmp_path / "photos", 3), tmp_path / "labels.csv")
    draw(session)
    finish = Finish(session)
    assert finish.start(train=True, predicted=True)
    assert not finish.start(train=False, predicted=False)  # it runs
    wait_until(lambda: finish.state != "running")
    assert finish.state == "failed"
    assert finish.commands == ["solobox --version", "solobox check nowhere.csv"]
    assert "nowhere.csv" in finish.lines[-1]
    assert len(Dataset.read(tmp_path / "labels.csv")) == 1
    assert finish.start(train=False, predicted=False)
    wait_until(lambda: finish.state == "done")
    finish.close()
    session.close()


def test_without_training_the_present_model_predicts_the_rest(tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "photos", 12)
    session = opened(photos, tmp_path / "labels.csv", learner_of(photos))
    for _ in range(5):
        draw(session)
    last = session.folder.names[session.folder.order[-1]]
    (photos / last).write_bytes(b"no image")
    wait_until(lambda: session.background.labels > 0)
    finish = Finish(session)
    assert finish.run(train=False, predicted=True)
    labels = Dataset.read(tmp_path / "labels.csv")
    assert labels.source.count("predicted") == 12 - 5 - 1
    assert finish.run(train=False, predicted=False)
    assert Dataset.read(tmp_path / "labels.csv").source.count("predicted") == 0
    session.close()


def test_after_an_unexpected_error_it_can_be_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = folder_of(tmp_path / "photos", 7)
    learner = learner_of(photos)
    session = opened(photos, tmp_path / "labels.csv", learner)
    for _ in range(5):
        draw(session)
    wait_until(lambda: session.background.labels > 0)
    session.background.wait_until_idle()
    finish = Finish(session)

    def fail(_: Path) -> Prediction:
        raise RuntimeError("a fault of a library")

    with monkeypatch.context() as patch:
        patch.setattr(learner, "predict", fail)
        assert finish.start(train=False, predicted=True)
        wait_until(lambda: finish.state == "failed")
    assert finish.lines[-1] == "RuntimeError: a fault of a library"
    assert finish.start(train=False, predicted=True)
    wait_until(lambda: finish.state == "done")
    finish.close()
    session.close()
    assert Dataset.read(tmp_path / "labels.csv").source.count("predicted") == 2


def test_closing_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "commands", lambda _: [["demo", "-o", str(tmp_path / "demo")]])
    session = opened(folder_of(tmp_path / "photos", 2), tmp_path / "labels.csv")
    draw(session)
    finish = Finish(session)
    finish.start(train=True, predicted=False)
    wait_until(lambda: len(finish.lines) > 1)
    finish.close()
    assert finish.state == "failed"
    session.close()
