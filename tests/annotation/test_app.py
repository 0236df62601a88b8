"""The page's requests: a secret path, this machine alone, no other file, nothing lost."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from folders import SIZE, TRUE, draw, folder_of, learner_of, opened, wait_until
from PIL import Image
from starlette.testclient import TestClient

from solobox.annotation.app import build_app
from solobox.annotation.events import Answer
from solobox.annotation.finish import Finish
from solobox.annotation.session import Session, open_session
from solobox.data.dataset import Dataset
from solobox.serve.settings import ServerSettings
from solobox.serve.state import ServerState

TOKEN = "a-secret"  # noqa: S105
ANN = {"person": "ann"}
Json = dict[str, Any]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = opened(folder_of(tmp_path / "photos", 7), tmp_path / "labels.csv")
    yield session
    session.close()


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    app = build_app(session, Finish(session), ServerSettings(), ServerState(), TOKEN)
    with TestClient(app, base_url="http://127.0.0.1:8100") as client:
        client.base_url = client.base_url.join(f"/{TOKEN}/")
        yield client


def next_of(client: TestClient, person: str = "ann") -> Json:
    task: Json = client.post("api/next", json={"person": person}).json()
    return task


def answer_to(task: Json, **other: object) -> Json:
    body: Json = {"person": "ann", "index": task["index"], "seen": task["seen"], "kind": "box", "box": TRUE}
    return body | {"blind": task["blind"], "seconds": 1.5, **other}


def test_an_answer_goes_round(client: TestClient, session: Session) -> None:
    task = next_of(client)
    assert (task["width"], task["height"]) == SIZE
    saved = client.post("api/answer", json=answer_to(task, label=" cat ")).json()
    assert saved == {"version": 1, "saved": True}
    shown = client.get(f"api/image/{task['index']}?person=ann").json()
    assert shown["answer"] == {"kind": "box", "box": list(TRUE), "label": "cat", "source": "drawn"}
    state = client.get("api/state").json()
    assert state["counts"] == {
        "box": 1, "absent": 0, "skipped": 0, "drawn": 1, "corrected": 0, "accepted": 0, "given": 0, "left": 6,
        "seconds": 1.5,
    }  # fmt: skip
    assert (state["total"], state["classes"], state["quality"]) == (7, ["cat"], None)
    assert client.post("api/undo", json=ANN).json() == {"index": task["index"]}
    assert not session.answers
    nothing = client.post("api/undo", json=ANN)
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing-to-undo")


def test_all_answered(client: TestClient) -> None:
    for _ in range(7):
        client.post("api/answer", json=answer_to(next_of(client), kind="absent", box=None))
    assert next_of(client)["index"] is None


def test_a_conflict_shows_the_other_answer(client: TestClient) -> None:
    task = next_of(client)
    client.post("api/answer", json=answer_to(task, person="bob"))
    refused = client.post("api/answer", json=answer_to(task, kind="absent", box=None))
    assert refused.status_code == 409
    assert refused.json()["code"] == "label-conflict"
    assert refused.json()["task"]["answer"]["box"] == list(TRUE)
    again = answer_to(refused.json()["task"], kind="absent", box=None)
    assert client.post("api/answer", json=again).status_code == 200


def test_a_full_disk_is_said_and_loses_nothing(
    client: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    task = next_of(client)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused = client.post("api/answer", json=answer_to(task))
    assert (refused.status_code, refused.json()["code"]) == (507, "disk-full")
    assert not session.answers
    assert client.post("api/answer", json=answer_to(task)).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"box": None},
        {"box": [3, 3, 1, 1]},
        {"box": [1, 2, 3]},
        {"box": [0, 0, 900, 900]},
        {"box": [0, 0, 1e999, 1]},
        {"kind": "maybe"},
        {"source": "accepted"},
        {"source": "given"},
        {"seconds": -1},
        {"person": ""},
        {"extra": 1},
    ],
)
def test_what_is_no_answer_is_refused(client: TestClient, session: Session, change: Json) -> None:
    body = json.dumps(answer_to(next_of(client)) | change).replace("Infinity", "1e999")
    refused = client.post("api/answer", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422
    assert refused.json().keys() == {"code", "message", "hint"}
    assert not session.answers


def test_images_are_upright_reduced_and_of_the_folder_alone(
    client: TestClient, session: Session, tmp_path: Path
) -> None:
    large = Image.new("RGB", (3000, 1000))
    exif = large.getexif()
    exif[0x0112] = 6  # a quarter turn
    large.save(session.folder.folder / "00.jpg", exif=exif)
    shown = client.get("images/0")
    (tmp_path / "shown.jpg").write_bytes(shown.content)
    with Image.open(tmp_path / "shown.jpg") as image:
        assert image.size == (533, 1600)
    (tmp_path / "shown.jpg").write_bytes(client.get("images/0/thumbnail").content)
    with Image.open(tmp_path / "shown.jpg") as image:
        assert image.size == (107, 320)
    assert client.get("images/7").status_code == 404
    assert client.get("images/-1").status_code == 404
    for path in (
        "images/..%2f..%2fsecret",
        "page/..%2fapp.py",
        "page/app.py",
        "page/none.js",
        "openapi.json",
    ):
        assert client.get(path).status_code in {404, 422}


def test_the_page_and_its_parts_load_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/b-secret/api/state", {}),
        ("/api/state", {}),
        (f"/{TOKEN}/api/state", {"host": "evil.example"}),
        (f"/{TOKEN}/api/state", {"origin": "https://evil.example"}),
    ],
)
def test_others_find_nothing(client: TestClient, path: str, headers: dict[str, str]) -> None:
    assert client.get(f"http://127.0.0.1:8100{path}", headers=headers).status_code in {403, 404}


def test_an_unknown_address_says_where_to_look(client: TestClient) -> None:
    for path in ("api/none", "http://127.0.0.1:8100/"):
        lost = client.get(path)
        assert (lost.status_code, lost.json()["hint"]) == (404, "Use the address that was printed.")


def test_the_end_is_begun_once(session: Session) -> None:
    finish = Finish(session, state="running")  # for another page
    app = build_app(session, finish, ServerSettings(), ServerState(), TOKEN)
    with TestClient(app, base_url="http://127.0.0.1:8100") as client:
        refused = client.post(f"/{TOKEN}/api/finish", json={"train": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "finish-running")


def test_a_page_of_another_site_cannot_answer(client: TestClient, session: Session) -> None:
    task = next_of(client)
    headers = {"sec-fetch-site": "cross-site"}
    assert client.post("api/answer", json=answer_to(task), headers=headers).status_code == 403
    assert not session.answers


def test_the_review_has_what_the_page_draws(tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "photos", 9)
    session = opened(photos, tmp_path / "labels.csv", learner_of(photos))
    for _ in range(5):
        draw(session)
    wait_until(lambda: session.background.labels == 5)
    (photos / session.folder.names[session.folder.order[-1]]).write_bytes(b"no image")
    app = build_app(session, Finish(session), ServerSettings(), ServerState(), TOKEN)
    with TestClient(app, base_url="http://127.0.0.1:8100") as client:
        client.base_url = client.base_url.join(f"/{TOKEN}/")
        assert client.get("api/state").json()["review"] == {"total": 4, "ready": 0}
        client.get("api/review")
        wait_until(lambda: client.get("api/review").json()["ready"] == 3)  # but the one that cannot be read
        review = client.get("api/review?offset=1&count=2").json()
        assert (review["total"], len(review["items"])) == (3, 2)
        item = review["items"][0]
        assert item | {"index": 0, "name": ""} == {
            "index": 0, "name": "", "width": 64, "height": 48, "seen": 0, "box": list(TRUE), "lower": None,
            "upper": None, "presence": None,
        }  # fmt: skip
        items = [{name: each[name] for name in ("index", "seen", "box")} for each in review["items"]]
        accepted = client.post("api/accept", json={"person": "ann", "items": items, "seconds": 3}).json()
        assert accepted == {"accepted": 2, "conflicts": []}
        assert client.get("api/review").json()["ready"] == 1
    session.close()


def test_accepting_a_page_leaves_others_answers_alone(client: TestClient, session: Session) -> None:
    client.post("api/answer", json=answer_to({"index": 1, "seen": 0, "blind": False}, person="bob"))
    items = [{"index": index, "seen": 0, "box": [1, 2, 30, 31]} for index in (0, 1, 2)]
    accepted = client.post("api/accept", json={"person": "ann", "items": items, "seconds": 3}).json()
    assert accepted == {"accepted": 2, "conflicts": [1]}
    assert session.answers["01.jpg"].box == TRUE
    assert session.answers["00.jpg"].source == "accepted"


@pytest.mark.parametrize(
    ("classes", "drawn", "label"),
    [(["cat"], "", "cat"), ([], "cat", "cat"), (["cat", "dog"], "", ""), (["cat"], "dog", ""), ([], "", "")],
)
def test_the_models_boxes_have_the_class_where_there_is_one(
    tmp_path: Path, classes: list[str], drawn: str, label: str
) -> None:
    photos = folder_of(tmp_path / "photos", 4)
    session = open_session(photos, tmp_path / "labels.csv", classes=classes)
    session.answer(3, Answer(kind="box", box=TRUE, label=drawn), person="ann", seen=0)
    app = build_app(session, Finish(session), ServerSettings(), ServerState(), TOKEN)
    with TestClient(app, base_url="http://127.0.0.1:8100") as client:
        items = [{"index": 0, "seen": 0, "box": TRUE}]
        accepted = client.post(f"/{TOKEN}/api/accept", json={"person": "ann", "items": items, "seconds": 1})
        assert accepted.json() == {"accepted": 1, "conflicts": []}
    session.add_predicted([(1, learner_of(photos).predict(session.folder.path(1)))])
    session.close()
    labels = Dataset.read(tmp_path / "labels.csv")
    assert dict(zip(labels.source, labels.label, strict=True)) == {
        "accepted": label, "predicted": label, "drawn": drawn,
    }  # fmt: skip
