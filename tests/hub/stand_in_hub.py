"""The parts of the Hugging Face Hub that its client calls for models, on loopback: git-like repositories and LFS."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from loopback import on_loopback

TOKEN = "hf_standin"  # noqa: S105
LFS_SUFFIXES = (".safetensors", ".onnx", ".npz")


@dataclass
class Repository:
    """commits: the files of each, by its id. refs: branches and tags. refuses: an HTTP status and error code."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    refuses: tuple[int, str] | None = None

    def commit(self, files: Mapping[str, bytes]) -> str:
        text = repr(
            (
                len(self.commits),
                sorted(
                    (name, hashlib.sha1(c, usedforsecurity=False).hexdigest()) for name, c in files.items()
                ),
            )
        )
        oid = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[oid] = dict(files)
        self.refs["main"] = oid
        return oid

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.refs["main"]]


@dataclass
class StandInHub:
    repositories: dict[str, Repository] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    read_only: bool = False
    failing: bool = False
    url: str = ""

    def repository(self, name: str, files: Mapping[str, bytes]) -> Repository:
        repository = self.repositories[name] = Repository()
        repository.commit({".gitattributes": b""} | dict(files))
        return repository

    def downloads(self) -> list[str]:
        return sorted(
            {
                line.rpartition("/")[2]
                for line in self.requests
                if line.startswith("GET") and "/resolve/" in line
            }
        )


class _RefusedError(Exception):
    def __init__(self, status: int, code: str = "", text: str = "") -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        pass

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        try:
            if self.hub.failing:
                raise _RefusedError(500, text="the stand-in is broken")
            for pattern, handle in _ROUTES:
                if match := re.fullmatch(pattern, f"{self.command} {path}"):
                    getattr(self, handle)(body, *match.groups())
                    return
            raise _RefusedError(404)
        except _RefusedError as error:
            self._answer(error.status, X_Error_Code=error.code, X_Error_Message=error.text)

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815  (the base class's names)

    def _signed_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _may_write(self) -> None:
        if not self._signed_in():
            raise _RefusedError(401, text="Invalid username or password.")
        if self.hub.read_only:
            raise _RefusedError(403, text="the token has no right to write")

    def _find(self, name: str) -> Repository:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._signed_in()):
            raise _RefusedError(404, "RepoNotFound", "Repository not found")
        if repository.refuses is not None:
            raise _RefusedError(*repository.refuses)
        return repository

    def _commit_of(self, name: str, revision: str | None) -> tuple[str, dict[str, bytes]]:
        repository = self._find(name)
        revision = revision or "main"
        oid = repository.refs.get(revision, revision)
        if oid not in repository.commits:
            raise _RefusedError(404, "RevisionNotFound", "Invalid rev id")
        return oid, repository.commits[oid]

    def info(self, body: bytes, name: str, revision: str | None) -> None:
        oid, files = self._commit_of(name, revision)
        siblings = [
            {"rfilename": file, "size": len(content), "blobId": _blob(content)}
            for file, content in files.items()
        ]
        card = files.get("README.md", b"").decode().split("---\n")
        metadata = yaml.safe_load(card[1]) if len(card) > 2 else None
        self._json({"_id": "1", "id": name, "modelId": name, "sha": oid, "siblings": siblings,
                    "tags": [], **({"cardData": metadata} if metadata else {})})  # fmt: skip

    def tree(self, body: bytes, name: str, revision: str) -> None:
        _, files = self._commit_of(name, revision)
        rows = []
        for file, content in files.items():
            row: dict[str, object] = {
                "type": "file",
                "path": file,
                "size": len(content),
                "oid": _blob(content),
            }
            if file.endswith(LFS_SUFFIXES):
                row["lfs"] = {
                    "oid": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "pointerSize": 130,
                }
            rows.append(row)
        self._json(rows)

    def resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
        oid, files = self._commit_of(name, revision)
        if file not in files:
            raise _RefusedError(404, "EntryNotFound", "Entry not found")
        content = files[file]
        digest = hashlib.sha256(content).hexdigest()
        if file.endswith(LFS_SUFFIXES):  # as the hub does, from another place
            self.hub.lfs[digest] = content
            elsewhere = self.hub.url.replace("127.0.0.1", "localhost")
            self._answer(302, Location=f"{elsewhere}/cdn/{digest}", X_Repo_Commit=oid, X_Linked_Etag=f'"{digest}"',
                         X_Linked_Size=str(len(content)), ETag=f'"{_blob(content)}"')  # fmt: skip
        else:
            self._answer(
                200, content, X_Repo_Commit=oid, ETag=f'"{_blob(content)}"', Content_Length=str(len(content))
            )

    def cdn(self, body: bytes, digest: str) -> None:
        self._answer(200, self.hub.lfs[digest], ETag=f'"{digest}"')

    def create(self, body: bytes) -> None:
        self._may_write()
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            self._answer(
                409, json.dumps({"url": f"{self.hub.url}/{name}"}).encode(), X_Error_Message="exists"
            )
            return
        self.hub.repository(name, {}).private = wanted.get("visibility") == "private" or bool(
            wanted.get("private")
        )
        self._json({"url": f"{self.hub.url}/{name}", "id": "1", "name": name})

    def validate_yaml(self, body: bytes) -> None:
        metadata = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
        wrong = [] if isinstance(metadata, dict) and "license" in metadata else [{"message": "no licence"}]
        self._json({"errors": wrong, "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        self._may_write()
        self._commit_of(name, revision)
        self._json({"files": [
            {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(LFS_SUFFIXES) else "regular",
             "shouldIgnore": False, "oid": None}
            for each in json.loads(body)["files"]
        ]})  # fmt: skip

    def batch(self, body: bytes, name: str) -> None:
        self._may_write()
        objects = json.loads(body)["objects"]
        self._json({"transfer": "basic", "objects": [
            each | {"actions": {"upload": {"href": f"{self.hub.url}/upload/{each['oid']}", "header": {}}}}
            for each in objects
        ]})  # fmt: skip

    def upload(self, body: bytes, digest: str) -> None:
        assert hashlib.sha256(body).hexdigest() == digest
        self.hub.lfs[digest] = body
        self._answer(200)

    def commit(self, body: bytes, name: str, revision: str) -> None:
        self._may_write()
        files = dict(self._commit_of(name, revision)[1])
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
            else:
                assert operation["key"] == "header", operation
        oid = self._find(name).commit(files)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid, "success": True})


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    (rf"GET /api/models/{_NAME}(?:/revision/(.+))?", "info"), (rf"GET /api/models/{_NAME}/tree/([^/]+)", "tree"),
    (rf"(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)", "resolve"), (r"(?:GET|HEAD) /cdn/(\w+)", "cdn"),
    (r"POST /api/repos/create", "create"), (r"POST /api/validate-yaml", "validate_yaml"),
    (rf"POST /api/models/{_NAME}/preupload/(.+)", "preupload"),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", "batch"),
    (r"PUT /upload/(\w+)", "upload"), (rf"POST /api/models/{_NAME}/commit/(.+)", "commit"),
)  # fmt: skip


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def serving(hub: StandInHub) -> Iterator[StandInHub]:
    with on_loopback(type("_Handler", (_Handler,), {"hub": hub})) as hub.url:
        yield hub


def environment(hub: StandInHub, cache: Path, token: str | None = TOKEN) -> dict[str, str]:
    """Variables with which another process uses the stand-in."""
    return {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_HUB_CACHE": str(cache / "hub"), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0", "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
        **({"HF_TOKEN": token} if token else {}),
    }  # fmt: skip


def use_here(hub_url: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Have this process use the stand-in; the client read its environment when it was imported."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", hub_url)
    template = f"{hub_url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    patch.setenv("HF_TOKEN", TOKEN)
    patch.setenv("no_proxy", "127.0.0.1,localhost")
    patch.setenv("NO_PROXY", "127.0.0.1,localhost")
