r"""Try the ML backend with a real Label Studio: create a project, connect the model, import tasks, get predictions.

Start Label Studio in an environment and a folder of its own, and name its address and a user's token:

    LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/tmp/files label-studio start
    LABEL_STUDIO_API_KEY=... python bench/label_studio.py http://127.0.0.1:8080 model.onnx photo.jpg \
        --local-files /tmp/files

The boxes in Label Studio must be those of `OnnxModel.predict`, whichever way the image got there.
"""

import argparse
import base64
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from solobox.predict.onnx_model import OnnxModel

CONFIG = """<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image">
<Label value="object"/></RectangleLabels></View>"""
KEY = "a-key-of-the-try-0123456789"


def connect(url: str) -> httpx.Client:
    token = os.environ["LABEL_STUDIO_API_KEY"]
    client = httpx.Client(base_url=url, trust_env=False, timeout=120)
    if token.count(".") == 2:
        access = (
            client.post("/api/token/refresh", json={"refresh": token}).raise_for_status().json()["access"]
        )
        client.headers["Authorization"] = f"Bearer {access}"
    else:
        client.headers["Authorization"] = f"Token {token}"
    return client


def import_tasks(client: httpx.Client, project: int, photo: Path, local: Path | None) -> list[str]:
    """Import the photo in every way; returns the ways, in the order of the tasks."""
    ways = ["upload", "data URI"]
    with photo.open("rb") as file:
        client.post(f"/api/projects/{project}/import", files={"file": (photo.name, file)}).raise_for_status()
    inline = f"data:image/jpeg;base64,{base64.b64encode(photo.read_bytes()).decode()}"
    tasks = [{"image": inline}]
    if local is not None:
        (local / "photos").mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, local / "photos" / photo.name)
        storage = {"path": str(local / "photos"), "project": project, "use_blob_urls": True, "title": "try"}
        client.post("/api/storages/localfiles", json=storage).raise_for_status()
        tasks.append({"image": f"/data/local-files/?d=photos/{photo.name}"})
        ways.append("local file")
    client.post(f"/api/projects/{project}/import", json=tasks).raise_for_status()
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--local-files", type=Path)
    parser.add_argument("--port", type=int, default=9090)
    options = parser.parse_args()
    serve = [sys.executable, "-m", "solobox", "serve", str(options.model), "--port", str(options.port)]
    server = subprocess.Popen(
        [*serve, "--label-studio", options.url], env=os.environ | {"SOLOBOX_API_KEY": KEY}
    )
    backend = f"http://127.0.0.1:{options.port}"
    try:
        for _ in range(100):
            try:
                print("health:", httpx.get(f"{backend}/health", trust_env=False).json())
                break
            except httpx.ConnectError:
                time.sleep(0.2)
        run(connect(options.url), options, backend)
    finally:
        server.terminate()
        server.wait(30)


def run(client: httpx.Client, options: argparse.Namespace, backend: str) -> None:
    project: int = client.post("/api/projects", json={"title": "try", "label_config": CONFIG}).json()["id"]
    ways = import_tasks(client, project, options.photo, options.local_files)
    connection = {
        "project": project, "url": backend, "title": "solobox",
        "auth_method": "BASIC_AUTH", "basic_auth_user": "solobox",
        "basic_auth_pass": KEY,
    }  # fmt: skip
    added = client.post("/api/ml", json=connection)
    state = {key: added.json().get(key) for key in ("state", "model_version", "error_message")}
    print("connected:", added.status_code, state)
    assert added.is_success, added.text
    tasks: list[dict[str, Any]] = client.get(f"/api/tasks?project={project}").json()["tasks"]
    ids = [task["id"] for task in sorted(tasks, key=lambda task: task["id"])]
    retrieve = {"selectedItems": {"all": True, "excluded": []}}
    answer = client.post(f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", json=retrieve)
    print("retrieve predictions:", answer.status_code, answer.text[:200])
    expected = OnnxModel.load(options.model).predict(options.photo)
    width, height = expected.size
    for way, number in zip(ways, ids, strict=True):
        (prediction,) = client.get(f"/api/tasks/{number}").json()["predictions"]
        (region,) = prediction["result"]
        v = region["value"]
        box = [v["x"] * width / 100, v["y"] * height / 100]
        box += [box[0] + v["width"] * width / 100, box[1] + v["height"] * height / 100]
        difference = max(abs(a - b) for a, b in zip(box, expected.box, strict=True))
        version, score = prediction["model_version"], prediction["score"]
        print(f"{way}: {version}, score {score}, off by {difference:.4f} px, {region['meta']}")
        assert difference < 0.01, (box, expected.box)
    print(f"project {project}: all boxes are those of OnnxModel.predict")


if __name__ == "__main__":
    main()
