"""Which image comes next, what is suggested, when the model learns, and what stays after the end."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from folders import SIZE, TRUE, draw, folder_of, learner_of, opened, refuse, wait_until
from PIL import Image
from stand_in_learner import StandInLearner

from error_codes import has_code
from solobox.annotation.events import Answer
from solobox.annotation.queue import BLIND_EVERY
from solobox.annotation.session import Session, open_session
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError, ImageError

OTHER = (1.0, 2.0, 20.0, 21.0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "photos", 30)


@pytest.fixture
def session(photos: Path, tmp_path: Path) -> Iterator[Session]:
    session = opened(photos, tmp_path / "labels.csv")
    yield session
    session.close()


def test_each_image_is_asked_about_once_and_every_third_blind(session: Session) -> None:
    seen, blind = [], []
    while (task := session.next("ann")) is not None:
        seen.append(task.index)
        blind.append(task.blind)
        session.answer(
            task.index, Answer(kind="box", box=TRUE, blind=task.blind), person="ann", seen=task.seen
        )
    assert sorted(seen) == list(range(30))
    assert seen != sorted(seen)
    assert [index for index, is_blind in enumerate(blind) if is_blind] == list(range(2, 30, BLIND_EVERY))


def scenes(folder: Path, count: int) -> Path:
    """Six frames of each scene, which are nearly the same."""
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number // 6).integers(0, 240, (6, 8, 3), dtype=np.uint8) + number % 3
        image = Image.fromarray(pixels.astype(np.uint8)).resize((256, 192), Image.Resampling.NEAREST)
        image.save(folder / f"{number:02}.png")
    return folder


def test_images_of_one_scene_do_not_follow_each_other_and_blind_ones_keep_their_order(tmp_path: Path) -> None:
    session = opened(scenes(tmp_path / "frames", 36), tmp_path / "labels.csv")
    seen: list[int] = []
    blind: list[int] = []
    while (task := session.next("ann", seen[-1] if seen else None)) is not None:
        seen.append(task.index)
        blind += [task.index] if task.blind else []
        answer = Answer(kind="box", box=TRUE, blind=task.blind)
        session.answer(task.index, answer, person="ann", seen=task.seen)
    session.close()
    in_row = [one // 6 == other // 6 for one, other in pairwise(seen)]
    order = session.folder.order
    assert sum(one // 6 == other // 6 for one, other in pairwise(order)) > 3  # they would
    assert not any(in_row[:-8])  # at the end there may be no other
    assert sorted(seen) == list(range(36))
    stream = order[BLIND_EVERY - 1 :: BLIND_EVERY]
    assert blind == stream[: len(blind)]  # each of them in its turn, whatever it shows
    assert len(blind) > 8


def test_a_reload_gives_the_same_image_and_another_person_another_one(session: Session) -> None:
    first, again, other = session.next("ann"), session.next("ann"), session.next("bob")
    assert first is not None
    assert other is not None
    assert first == again
    assert other.index != first.index


def test_what_a_closed_page_had_comes_last(session: Session) -> None:
    left = session.next("ann")  # who never answers
    assert left is not None
    seen = []
    while (task := session.next("bob")) is not None:
        seen.append(task.index)
        session.answer(task.index, Answer(kind="absent"), person="bob", seen=task.seen)
    assert seen[-1] == left.index
    assert len(session.answers) == 30


def test_further_images_do_not_change_the_order(photos: Path, session: Session, tmp_path: Path) -> None:
    before = [session.folder.names[index] for index in session.folder.order]
    (photos / "zz.jpg").write_bytes((photos / "00.jpg").read_bytes())
    with_more = open_session(photos, tmp_path / "other.csv")
    after = [with_more.folder.names[index] for index in with_more.folder.order]
    assert [name for name in after if name != "zz.jpg"] == before
    with_more.close()


def test_two_people_do_not_overwrite_each_other(session: Session) -> None:
    task = session.next("ann")
    assert task is not None
    session.answer(task.index, Answer(kind="box", box=TRUE), person="ann", seen=task.seen)
    with pytest.raises(DataError, check=has_code("label-conflict")):
        session.answer(task.index, Answer(kind="absent"), person="bob", seen=task.seen)
    now = session.task(task.index, "bob")
    assert now.answer is not None
    assert now.answer.box == TRUE
    session.answer(task.index, Answer(kind="absent"), person="bob", seen=now.seen)
    assert session.answers[task.name].kind == "absent"


def test_undone_images_come_again(session: Session) -> None:
    drawn = [draw(session) for _ in range(4)]
    assert [session.undo("ann") for _ in range(3)] == drawn[:0:-1]
    assert len(session.answers) == 1
    assert draw(session) in drawn[1:]


@pytest.mark.parametrize("box", [(-5, 0, 20, 20), (0, 0, 70, 20), (0, 0, 20, 60), (64, 1, 64.5, 2)])
def test_a_box_outside_the_image_is_refused(session: Session, box: tuple[float, float, float, float]) -> None:
    with pytest.raises(DataError, check=has_code("box-outside")):
        session.answer(0, Answer(kind="box", box=box), person="ann", seen=0)
    assert not session.answers


def test_a_box_a_little_outside_is_cut(session: Session) -> None:
    session.answer(0, Answer(kind="box", box=(-0.4, 0.123456, *SIZE)), person="ann", seen=0)
    assert session.answers["00.jpg"].box == (0, 0.12, *SIZE)


def test_the_labels_are_written_and_read_as_any_others(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "labels.csv"
    session = opened(photos, out)
    for index in (0, 1):
        session.answer(index, Answer(kind="box", box=TRUE, label="cat"), person="ann", seen=0)
    session.answer(2, Answer(kind="absent"), person="ann", seen=0)
    session.answer(3, Answer(kind="skipped"), person="ann", seen=0)
    session.close()
    dataset = Dataset.read(out, check="pixels")
    assert dataset.has_box.tolist() == [True, True, False]
    assert dataset.boxes[0].tolist() == list(TRUE)
    assert dataset.label[:2] == ("cat", "cat")
    assert dataset.source == ("drawn", "drawn", "drawn")


def test_it_goes_on_where_it_was(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    first = opened(photos, out)
    drawn = [draw(first) for _ in range(5)]
    with pytest.raises(ConfigError, check=has_code("log-in-use")):
        open_session(photos, out)
    first.close()
    out.unlink()
    again = opened(photos, out)
    assert len(again.answers) == 5
    assert again.undo("ann") == drawn[-1]
    again.close()
    assert len(Dataset.read(out)) == 4  # the labels are those of the log


@pytest.mark.parametrize("last", ["undone", "skipped"])
def test_it_goes_on_where_no_label_is_left(photos: Path, tmp_path: Path, last: str) -> None:
    out = tmp_path / "labels.csv"
    first = opened(photos, out)
    drawn = draw(first)
    first.close()
    again = opened(photos, out)
    if last == "undone":
        again.undo("ann")
    else:
        task = again.task(drawn, "ann")
        again.answer(drawn, Answer(kind="skipped"), person="ann", seen=task.seen)
    again.close()
    third = opened(photos, out)
    assert len(third.dataset()) == 0
    draw(third)
    third.close()
    assert len(Dataset.read(out)) == 1


def test_boxes_of_a_model_stay_until_they_are_replaced(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    learner = learner_of(photos)
    session = opened(photos, out)
    draw(session)
    rest = [index for index in range(30) if session.folder.names[index] not in session.answers]
    session.add_predicted([(index, learner.predict(session.folder.path(index))) for index in rest])
    session.close()  # which writes the labels again
    again = opened(photos, out)
    assert again.dataset().source.count("predicted") == 29
    again.answer(rest[0], Answer(kind="absent"), person="ann", seen=0)
    again.answer(rest[1], Answer(kind="skipped"), person="ann", seen=0)
    again.close()
    labels = Dataset.read(out)
    assert labels.source.count("predicted") == 27
    assert len(labels) == 29
    last = opened(photos, out)
    last.add_predicted(())
    last.close()
    assert len(Dataset.read(out)) == 2


def test_labels_of_another_origin_are_not_replaced(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    out.write_text("image,x1,y1,x2,y2\nphotos/00.jpg,1,2,3,4\n")
    with pytest.raises(DataError, check=has_code("labels-exist")):
        open_session(photos, out)
    assert "1,2,3,4" in out.read_text()


def test_it_begins_with_labels_that_exist(photos: Path, session: Session, tmp_path: Path) -> None:
    session.answer(1, Answer(kind="absent"), person="ann", seen=0)
    folder_of(tmp_path / "elsewhere", 1)
    paths = [
        photos / "00.jpg",
        photos / "01.jpg",
        photos / "below" / "02.jpg",
        tmp_path / "elsewhere" / "00.jpg",
    ]
    boxes = [OTHER, OTHER, (float("nan"),) * 4, OTHER]
    assert session.add(Dataset(paths, boxes, label=["cat", "", "", ""])) == (2, 1)
    assert session.answers["00.jpg"].box == OTHER
    assert session.answers["00.jpg"].source == "given"
    assert session.answers["01.jpg"].kind == "absent"  # what was answered stays
    assert session.answers["below/02.jpg"].kind == "absent"
    assert session.classes == ("cat",)


def test_it_learns_from_the_fifth_box_and_then_suggests(photos: Path, tmp_path: Path) -> None:
    learner = learner_of(photos)
    session = opened(photos, tmp_path / "labels.csv", learner)
    for _ in range(4):
        draw(session)
    session.answer(session.folder.order[4], Answer(kind="absent"), person="ann", seen=0)
    assert not learner.trained
    draw(session)
    wait_until(lambda: session.background.labels == 5)
    tasks = []
    for _ in range(6):
        task = session.next("ann")
        assert task is not None
        tasks.append(task)
        session.answer(
            task.index, Answer(kind="box", box=TRUE, blind=task.blind), person="ann", seen=task.seen
        )
    assert {task.suggestion is None for task in tasks if task.blind} == {True}
    assert {task.suggestion is None for task in tasks if not task.blind} == {False}
    wait_until(lambda: session.background.labels > 5)
    session.close()


def test_a_doubtful_box_is_not_suggested(photos: Path, tmp_path: Path) -> None:
    session = opened(photos, tmp_path / "labels.csv", learner_of(photos, std=20.0))
    for _ in range(5):
        draw(session)
    wait_until(lambda: session.background.labels == 5)
    for _ in range(4):
        task = session.next("ann")
        assert task is not None
        assert task.suggestion is None
        draw(session)
    session.close()


def test_the_page_does_not_wait_while_the_model_learns(photos: Path, tmp_path: Path) -> None:
    learner = learner_of(photos)
    learner.may_learn.clear()
    session = opened(photos, tmp_path / "labels.csv", learner)
    for _ in range(8):
        draw(session)
    wait_until(lambda: session.background.is_learning)
    for _ in range(5):
        draw(session)
    assert session.background.labels == 0
    learner.may_learn.set()
    wait_until(lambda: session.background.labels == 13)
    session.close()


def test_the_blind_answers_measure(photos: Path, tmp_path: Path) -> None:
    learner = learner_of(photos)
    session = opened(photos, tmp_path / "labels.csv", learner)
    while session.next("ann") is not None:
        draw(session)
    wait_until(lambda: session.background.labels == 30)
    wait_until(lambda: bool(learner.measured) and len(learner.measured[-1]) == 10)
    session.close()
    again = opened(photos, tmp_path / "labels.csv")
    quality = again.quality.quality()
    assert quality is not None
    assert quality.last.count == 10
    assert quality.last.iou == pytest.approx(22 / 23)  # the box is one of 22 pixels too high
    assert quality.look is not None
    assert quality.look.count == 10
    again.close()


def test_the_review_has_the_least_sure_first_and_no_answered_ones(photos: Path, tmp_path: Path) -> None:
    learner = learner_of(photos)
    session = opened(photos, tmp_path / "labels.csv", learner)
    for _ in range(6):
        draw(session)
    wait_until(lambda: session.background.labels > 0)
    session.review(0, 5)
    wait_until(lambda: session.review(0, 1)[1] == 24)
    total, ready, page = session.review(20, 50)
    assert (total, ready, len(page)) == (24, 24, 4)
    index = page[0].index
    session.answer(index, Answer(kind="box", box=TRUE), person="ann", seen=page[0].seen)
    _, ready, page = session.review(0, 50)
    assert ready == 23
    assert index not in [task.index for task in page]
    session.close()


def test_what_the_review_showed_does_not_measure(photos: Path, tmp_path: Path) -> None:
    session = opened(photos, tmp_path / "labels.csv", learner_of(photos))
    for _ in range(5):
        draw(session)
    wait_until(lambda: session.background.labels == 5)
    task = session.next("ann")
    assert task is not None
    assert task.blind
    session.review(0, 1)
    wait_until(lambda: session.review(0, 100)[1] == 25)  # all are seen
    session.answer(task.index, Answer(kind="box", box=TRUE, blind=True), person="ann", seen=task.seen)
    assert not session.answers[task.name].blind
    for _ in range(6):
        following = session.next("ann")
        assert following is not None
        assert not following.blind
        draw(session)
    session.close()


def test_a_learner_that_fails_leaves_a_page_that_works(photos: Path, tmp_path: Path) -> None:
    session = open_session(photos, tmp_path / "labels.csv", make_learner=refuse)
    session.start()
    wait_until(lambda: bool(session.background.error))
    for _ in range(6):
        draw(session)
    wait_until((tmp_path / "labels.csv").exists)
    assert "no learner here" in session.background.error
    session.close()
    assert len(Dataset.read(tmp_path / "labels.csv")) == 6


def test_without_torch_one_draws_alone(photos: Path, tmp_path: Path) -> None:
    def missing() -> StandInLearner:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    session = open_session(photos, tmp_path / "labels.csv", make_learner=missing)
    session.start()
    wait_until(lambda: "[train]" in session.background.error)
    for _ in range(6):
        draw(session)
    session.close()
    assert len(Dataset.read(tmp_path / "labels.csv")) == 6


def test_images_that_cannot_be_read_and_links_to_elsewhere(photos: Path, tmp_path: Path) -> None:
    (photos / "aa.jpg").write_bytes(b"no image")
    outside = folder_of(tmp_path / "secret", 1) / "00.jpg"
    (photos / "ab.jpg").symlink_to(outside)
    session = opened(photos, tmp_path / "labels.csv")
    index = session.folder.index["aa.jpg"]
    assert "aa.jpg" in session.task(index, "ann").error
    session.answer(index, Answer(kind="skipped"), person="ann", seen=0)
    link = session.folder.index["ab.jpg"]
    assert "outside" in session.task(link, "ann").error
    with pytest.raises(ImageError, check=has_code("outside-folder")):
        session.folder.jpeg(link, 100)
    session.close()


def test_an_unknown_image(session: Session) -> None:
    for index in (-1, 30):
        with pytest.raises(DataError, check=has_code("no-such-image")):
            session.task(index, "ann")
        with pytest.raises(DataError, check=has_code("no-such-image")):
            session.answer(index, Answer(kind="absent"), person="ann", seen=0)
