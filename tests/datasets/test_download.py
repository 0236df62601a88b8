import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import Site, serving
from filelock import FileLock
from miniatures import Listener, cub200, image, link, selfie, tar_of

from solobox.datasets import Archive, PublicDataset, download
from solobox.datasets.downloader import RETRIES, require_https
from solobox.datasets.public import Limits, PreparedImages
from solobox.errors import DataError, SoloboxError

THINGS = tar_of({"things/a.jpg": image(1, (200, 150)), "things/b.jpg": image(2, (200, 150))})
SHA256 = hashlib.sha256(THINGS).hexdigest()


def prepare(folder: Path) -> PreparedImages:
    prepared = PreparedImages(folder, "things")
    for name in ("a.jpg", "b.jpg"):
        prepared.add(folder / "things" / name, (1, 2, 30, 20), where=name, split="train")
    return prepared


def things(checksum: str | None = None) -> PublicDataset:
    archive = Archive(
        url="https://example.org/data/things.tgz",
        folders=("things",),
        limits=Limits(1 << 20, 20),
        checksum=checksum,
    )
    return PublicDataset(
        name="things", description="two things", homepage="https://example.org", license="none",
        image_folder="things", archives=(archive,), prepare=prepare,
    )  # fmt: skip


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({"/things.tgz": THINGS})) as ready:
        yield ready


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".download.lock"
    }


def failure(dataset: PublicDataset | str, folder: Path, url: str) -> SoloboxError:
    with pytest.raises(SoloboxError) as caught:
        download(dataset, folder, url=url)
    return caught.value


def test_a_download_leaves_its_files_and_nothing_else(site: Site, tmp_path: Path) -> None:
    listener = Listener()
    folder = tmp_path / "new" / "d"
    result = download(things(f"sha256:{SHA256}"), folder, url=f"{site.url}/", progress=listener)
    assert not result.was_complete
    assert [stage[0] for stage in listener.stages] == ["downloading things.tgz, MiB", "unpacking things.tgz"]
    assert listener.stages[0][1:] == [1, 1]
    files = tree(folder)
    assert sorted(files) == [
        "archives/things.tgz", "download.json", "labels.csv", "things/a.jpg", "things/b.jpg",
    ]  # fmt: skip
    assert files["labels.csv"].decode() == (
        "image,x1,y1,x2,y2,split,source\nthings/a.jpg,1,2,30,20,train,things\nthings/b.jpg,1,2,30,20,train,things\n"
    )
    assert json.loads(files["download.json"]) == {
        "dataset": "things",
        "sha256": {"things.tgz": SHA256},
        "counts": {"labels.csv": 2, "unlabelled.csv": 0, "skipped.csv": 0},
    }


def test_a_complete_download_is_left_alone_and_edited_labels_stay(site: Site, tmp_path: Path) -> None:
    download(things(), tmp_path / "d", url=site.url)
    (tmp_path / "d" / "labels.csv").write_text("mine")
    before = tree(tmp_path / "d")
    assert download(things(), tmp_path / "d", url=site.url).was_complete
    assert tree(tmp_path / "d") == before
    assert len(site.requests) == 1
    shutil.rmtree(tmp_path / "d" / "things")
    download(things(), tmp_path / "d", url=site.url)
    assert tree(tmp_path / "d") == before
    assert len(site.requests) == 1  # the archive was still there


def test_dropped_connections_and_busy_servers_are_tried_again(site: Site, tmp_path: Path) -> None:
    site.drops, site.failing = [1000, 0], [503]
    download(things(), tmp_path / "d", url=site.url)
    assert len(site.requests) == 4
    assert (tmp_path / "d" / "archives" / "things.tgz").read_bytes() == THINGS


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_not_there_is_asked_for_once(site: Site, tmp_path: Path, status: int) -> None:
    site.failing = [status] * (RETRIES + 1)
    error = failure(things(), tmp_path / "d", site.url)
    assert (error.code, len(site.requests)) == ("download-failed", 1)
    assert str(status) in str(error)


def test_a_server_that_always_breaks_leaves_no_archive(site: Site, tmp_path: Path) -> None:
    site.drops = [1000] * (RETRIES + 1)
    assert failure(things(), tmp_path / "d", site.url).code == "download-failed"
    assert list(tree(tmp_path / "d")) == ["download.json"]
    download(things(), tmp_path / "d", url=site.url)
    assert (tmp_path / "d" / "labels.csv").exists()


def test_a_server_that_is_gone_is_named(tmp_path: Path) -> None:
    with serving(Site({})) as gone:
        pass
    with serving(Site({})):
        error = failure(things(), tmp_path / "d", gone.url)
    assert error.code == "download-failed"
    assert gone.url in str(error)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_names_both_and_leaves_no_archive(site: Site, tmp_path: Path, kind: str) -> None:
    wrong = hashlib.new(kind, b"other").hexdigest()
    error = failure(things(f"{kind}:{wrong}"), tmp_path / "d", site.url)
    assert error.code == "checksum-mismatch"
    assert wrong in str(error)
    assert hashlib.new(kind, THINGS).hexdigest() in str(error)
    assert list(tree(tmp_path / "d")) == ["download.json"]


def test_without_a_published_checksum_the_first_download_is_the_reference(site: Site, tmp_path: Path) -> None:
    listener = Listener()
    download(things(), tmp_path / "d", url=site.url, progress=listener)
    assert SHA256 in " ".join(listener.said)
    shutil.rmtree(tmp_path / "d" / "things")
    (tmp_path / "d" / "archives" / "things.tgz").unlink()
    site.files["/things.tgz"] = tar_of({"things/a.jpg": image(7)})
    assert failure(things(), tmp_path / "d", site.url).code == "checksum-mismatch"
    assert not (tmp_path / "d" / "things").exists()


def test_an_archive_put_there_by_hand_is_verified_and_used(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "d" / "archives" / "things.tgz"
    path.parent.mkdir(parents=True)
    path.write_bytes(THINGS)
    download(things(f"sha256:{SHA256}"), tmp_path / "d", url=site.url)
    assert site.requests == []
    shutil.rmtree(tmp_path / "d" / "things")
    path.write_bytes(THINGS[:-1])
    download(things(f"sha256:{SHA256}"), tmp_path / "d", url=site.url)
    assert len(site.requests) == 1
    assert path.read_bytes() == THINGS


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (tar_of({"things/a.jpg": b"1", "../evil.txt": b"2"}), "archive-unsafe"),
        (tar_of({"things/a.jpg": bytes(2 << 20)}), "archive-too-large"),
        (tar_of({"other/a.jpg": b"1", "other/l": link("a.jpg")}), "archive-unexpected"),
        (THINGS[:-2000], "archive-damaged"),
        (b"<html>sorry</html>", "archive-damaged"),
    ],
    ids=["traversal", "bomb", "another", "truncated", "page"],
)
def test_bad_archives_leave_nothing_unpacked(site: Site, tmp_path: Path, content: bytes, code: str) -> None:
    site.files["/things.tgz"] = content
    assert failure(things(), tmp_path / "d", site.url).code == code
    assert sorted(tree(tmp_path / "d")) == ["archives/things.tgz", "download.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    # Its checksum has not become the reference: the right archive is accepted.
    (tmp_path / "d" / "archives" / "things.tgz").unlink()
    site.files["/things.tgz"] = THINGS
    download(things(), tmp_path / "d", url=site.url)
    assert (tmp_path / "d" / "labels.csv").exists()


def test_a_folder_with_other_files_is_refused_and_left_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert failure(things(), tmp_path, site.url).code == "folder-not-empty"
    assert tree(tmp_path) == {"mine.txt": b"mine"}
    download(things(), tmp_path / "d", url=site.url)
    assert failure("selfie", tmp_path / "d", site.url).code == "folder-not-empty"
    (tmp_path / "d" / "download.json").write_text("{")
    assert failure(things(), tmp_path / "d", site.url).code == "manifest-damaged"
    assert "mine.txt" in str(failure(things(), tmp_path / "mine.txt", site.url))


def test_a_stop_while_unpacking_is_made_up_for(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_archive: Path, folder: Path, *_: object) -> None:
        folder.mkdir(parents=True)
        (folder / "half.jpg").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("solobox.datasets.downloader.unpack", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a kill -9 tidies nothing up
        with pytest.raises(KeyboardInterrupt):
            download(things(), tmp_path / "d", url=site.url)
    assert (tmp_path / "d" / ".unpacking").exists()
    assert not (tmp_path / "d" / "things").exists()
    download(things(), tmp_path / "d", url=site.url)
    assert sorted(tree(tmp_path / "d"))[-2:] == ["things/a.jpg", "things/b.jpg"]
    assert not (tmp_path / "d" / ".unpacking").exists()
    assert len(site.requests) == 1


def test_two_downloads_into_one_folder_do_not_mix(site: Site, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with FileLock(tmp_path / "d" / ".download.lock"):
        assert failure(things(), tmp_path / "d", site.url).code == "download-running"
    download(things(), tmp_path / "d", url=site.url)


def test_a_missing_module_is_reported_before_anything_is_downloaded(site: Site, tmp_path: Path) -> None:
    error = failure(replace(things(), requires=("no_such_module_here",)), tmp_path / "d", site.url)
    assert error.code == "missing-package"
    assert "no_such_module_here" in str(error)
    assert not (tmp_path / "d").exists()
    assert site.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/f",
        "ftp://127.0.0.1/f",
        "file:///etc/passwd",
        "f.bin",
        "http://[x/f",
        "https://[x/f",
        "https://",
    ],
)
def test_only_https_and_loopback_are_allowed(url: str, tmp_path: Path) -> None:
    assert failure("selfie", tmp_path / "d", url).code == "url-not-https"
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "url", ["https://example.org/f", "http://localhost:8/f", "http://[::1]/f", "http://127.3.2.1/f"]
)
def test_https_and_loopback_are_allowed(url: str) -> None:
    require_https(url)


def test_redirects_are_followed_but_not_to_http_elsewhere(site: Site, tmp_path: Path) -> None:
    site.moved["/moved/things.tgz"] = "/things.tgz"
    download(things(), tmp_path / "d", url=f"{site.url}/moved")
    site.moved["/away/things.tgz"] = "http://example.org/things.tgz"
    assert failure(things(), tmp_path / "e", f"{site.url}/away").code == "url-not-https"
    assert list(tree(tmp_path / "e")) == ["download.json"]


def test_the_published_checksums_are_compared(site: Site, tmp_path: Path) -> None:
    site.files = {f"/{name}": content for name, content in selfie().items()}
    assert download("selfie", tmp_path / "d", url=site.url).counts["unlabelled.csv"] == 3
    # A miniature does not have the checksum of the real archive.
    site.files = {f"/{name}": content for name, content in cub200().items()}
    assert failure("cub200", tmp_path / "birds", site.url).code == "checksum-mismatch"


def test_a_disk_that_cannot_be_written_is_an_error_for_people(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pooch.core.shutil.move", full)
        error = failure(things(), tmp_path / "d", site.url)
    assert isinstance(error, DataError)
    assert "No space left on device" in str(error)
    assert list(tree(tmp_path / "d")) == ["download.json"]
    assert len(site.requests) == 1
    download(things(), tmp_path / "d", url=site.url)
