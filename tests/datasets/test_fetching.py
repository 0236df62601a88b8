import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fetch_archives import Listener, cub200, image, link, selfie, tar_of
from fetch_server import Site, serving

from solobox.datasets import Archive, PublicDataset, fetch, find
from solobox.datasets import fetching as module
from solobox.datasets.preparing import Prepared
from solobox.datasets.unpack import Limits
from solobox.errors import ConfigError, DataError

THINGS = tar_of({"things/a.jpg": image(1, (200, 150)), "things/b.jpg": image(2, (200, 150))})


def prepare(folder: Path) -> Prepared:
    prepared = Prepared(folder, "things")
    for name in ("a.jpg", "b.jpg"):
        prepared.add(folder / "things" / name, (1, 2, 30, 20), where=name, split="train")
    return prepared


def things(**declared: object) -> PublicDataset:
    archive = Archive(
        url="https://example.org/data/things.tgz", holds=("things",), limits=Limits(1 << 20, 20)
    )
    archive = replace(archive, **declared)  # type: ignore[arg-type]
    return PublicDataset(
        name="things", what="two things", page="https://example.org", terms="none", images="things",
        archives=(archive,), prepare=prepare,
    )  # fmt: skip


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({"/things.tgz": THINGS})) as ready:
        yield ready


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".fetching"
    }


def test_a_fetched_set_is_all_there_and_nothing_else(site: Site, tmp_path: Path) -> None:
    sha = hashlib.sha256(THINGS).hexdigest()
    result = fetch(things(sha256=sha, size=len(THINGS)), tmp_path / "new" / "d", url=f"{site.url}/")
    assert not result.already
    files = tree(tmp_path / "new" / "d")
    assert sorted(files) == [
        "archives/things.tgz", "fetched.json", "labels.csv", "things/a.jpg", "things/b.jpg",
    ]  # fmt: skip
    assert files["labels.csv"].decode() == (
        "image,x1,y1,x2,y2,split,source\nthings/a.jpg,1,2,30,20,train,things\nthings/b.jpg,1,2,30,20,train,things\n"
    )
    assert json.loads(files["fetched.json"]) == {
        "set": "things",
        "archives": {
            "things.tgz": {
                "url": f"{site.url}/things.tgz", "size": len(THINGS), "sha256": sha,
                "checked": "the published sha256",
            }
        },
        "counts": {"labels.csv": 2, "unlabelled.csv": 0, "left_out.csv": 0},
    }  # fmt: skip


def test_a_second_run_does_nothing(site: Site, tmp_path: Path) -> None:
    first = fetch(things(), tmp_path / "d", url=site.url)
    before, requests = tree(tmp_path / "d"), len(site.asked)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*")}
    second = fetch(things(), tmp_path / "d", url=site.url)
    assert second.already
    assert second.counts == first.counts
    assert len(site.asked) == requests
    assert tree(tmp_path / "d") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*")} == times


def test_only_what_is_missing_is_done_again(site: Site, tmp_path: Path) -> None:
    fetch(things(), tmp_path / "d", url=site.url)
    whole = tree(tmp_path / "d")
    (tmp_path / "d" / "archives" / "things.tgz").unlink()  # no longer needed
    assert fetch(things(), tmp_path / "d", url=site.url).already
    (tmp_path / "d" / "labels.csv").unlink()
    assert not fetch(things(), tmp_path / "d", url=site.url).already
    assert len(site.asked) == 1
    for path in (tmp_path / "d" / "things").iterdir():
        path.unlink()
    (tmp_path / "d" / "things").rmdir()
    fetch(things(), tmp_path / "d", url=site.url)
    assert len(site.asked) == 2
    assert tree(tmp_path / "d") == whole


def test_tables_that_someone_has_changed_are_never_written_over(site: Site, tmp_path: Path) -> None:
    fetch(things(), tmp_path / "d", url=site.url)
    mine = "image,x1,y1,x2,y2\nthings/a.jpg,5,6,7,8\n"
    (tmp_path / "d" / "labels.csv").write_text(mine)
    facts = json.loads((tmp_path / "d" / "fetched.json").read_text())
    del facts["counts"]  # as after a stop between the two
    (tmp_path / "d" / "fetched.json").write_text(json.dumps(facts))
    fetch(things(), tmp_path / "d", url=site.url)
    assert (tmp_path / "d" / "labels.csv").read_text() == mine


def test_a_broken_download_is_gone_on_with_by_the_next_run(site: Site, tmp_path: Path) -> None:
    site.drops = [5000, 0, 0, 0]
    with pytest.raises(DataError, match="goes on from there"):
        fetch(things(), tmp_path / "d", url=site.url)
    assert sorted(tree(tmp_path / "d")) == [
        "archives/things.tgz.part", "archives/things.tgz.part.json", "fetched.json"
    ]  # fmt: skip
    site.asked.clear()
    fetch(things(), tmp_path / "d", url=site.url)
    assert site.ranges_asked() == ["bytes=5000-"]
    assert sorted(tree(tmp_path / "d"))[-2:] == ["things/a.jpg", "things/b.jpg"]


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_names_both_and_puts_nothing_in_place(site: Site, tmp_path: Path, kind: str) -> None:
    wrong = hashlib.new(kind, b"other").hexdigest()
    with pytest.raises(DataError) as caught:
        fetch(things(**{kind: wrong}), tmp_path / "d", url=site.url)
    assert wrong in str(caught.value)
    assert hashlib.new(kind, THINGS).hexdigest() in str(caught.value)
    assert list(tree(tmp_path / "d")) == ["fetched.json"]
    assert len(site.asked) == 1


def test_wrong_bytes_of_an_earlier_run_are_thrown_away_once(site: Site, tmp_path: Path) -> None:
    (tmp_path / "d" / "archives").mkdir(parents=True)
    (tmp_path / "d" / "archives" / "things.tgz.part").write_bytes(b"\0" * 1000)
    listener = Listener()
    fetch(things(sha256=hashlib.sha256(THINGS).hexdigest()), tmp_path / "d", url=site.url, progress=listener)
    assert site.ranges_asked() == ["bytes=1000-", None]
    assert "do not fit: starting over" in " ".join(listener.said)
    assert (tmp_path / "d" / "archives" / "things.tgz").read_bytes() == THINGS


def test_without_a_published_checksum_the_first_download_is_the_measure(site: Site, tmp_path: Path) -> None:
    listener = Listener()
    fetch(things(), tmp_path / "d", url=site.url, progress=listener)
    sha = hashlib.sha256(THINGS).hexdigest()
    assert f"no checksum is published for it. This one's sha256 is {sha}" in " ".join(listener.said)
    for path in (tmp_path / "d" / "things").iterdir():
        path.unlink()
    (tmp_path / "d" / "things").rmdir()
    (tmp_path / "d" / "archives" / "things.tgz").unlink()
    site.files["/things.tgz"] = tar_of({"things/a.jpg": image(7)})
    with pytest.raises(DataError, match=f"but {sha} was noted in fetched.json at the first download"):
        fetch(things(), tmp_path / "d", url=site.url)
    assert not (tmp_path / "d" / "things").exists()


def test_an_archive_put_there_by_hand_is_checked_and_used(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "d" / "archives" / "things.tgz"
    place.parent.mkdir(parents=True)
    place.write_bytes(THINGS[:-1])
    kind = things(sha256=hashlib.sha256(THINGS).hexdigest())
    with pytest.raises(DataError, match="Move it away"):
        fetch(kind, tmp_path / "d", url=site.url)
    assert place.read_bytes() == THINGS[:-1]
    place.write_bytes(THINGS)
    fetch(kind, tmp_path / "d", url=site.url)
    assert site.asked == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tar_of({"things/a.jpg": b"1", "../evil.txt": b"2"}), "leads out"),
        (tar_of({"things/a.jpg": b"1", "things/l": link("../../evil")}), "leads out"),
        (tar_of({"things/a.jpg": bytes(2 << 20)}), "unpacks to more"),
        (tar_of({"other/a.jpg": b"1"}), "holds no folder things"),
        (THINGS[:-2000], "cut short"),
        (b"<html>sorry</html>", "cannot be unpacked"),
    ],
    ids=["dots", "link", "bomb", "another", "truncated", "page"],
)
def test_bad_archives_leave_nothing_unpacked(site: Site, tmp_path: Path, content: bytes, says: str) -> None:
    site.files["/things.tgz"] = content
    with pytest.raises(DataError, match=says):
        fetch(things(), tmp_path / "d", url=site.url)
    assert sorted(tree(tmp_path / "d")) == ["archives/things.tgz", "fetched.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    # It has not become the measure for others either: the right one is welcome.
    (tmp_path / "d" / "archives" / "things.tgz").unlink()
    site.files["/things.tgz"] = THINGS
    fetch(things(), tmp_path / "d", url=site.url)
    assert (tmp_path / "d" / "labels.csv").exists()


def test_a_folder_of_something_else_is_refused_untouched(site: Site, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds other things \(mine\.txt\)"):
        fetch(things(), tmp_path, url=site.url)
    assert tree(tmp_path) == {"mine.txt": b"mine"}
    fetch(things(), tmp_path / "d", url=site.url)
    with pytest.raises(DataError, match="holds 'things' already"):
        fetch(find("selfie"), tmp_path / "d", url=site.url)
    (tmp_path / "d" / "fetched.json").write_text("{")
    with pytest.raises(DataError, match=r"fetched\.json: cannot be read"):
        fetch(things(), tmp_path / "d", url=site.url)
    with pytest.raises(DataError, match=r"mine\.txt: cannot be written"):
        fetch(things(), tmp_path / "mine.txt", url=site.url)


def test_a_folder_that_cannot_be_written_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    refuse(monkeypatch, ".fetching", "Read-only file system")  # not by its mode: root may write anywhere
    with pytest.raises(DataError, match=r"d.*cannot be written: Read-only file system"):
        fetch(things(), tmp_path / "d", url=site.url)
    assert site.asked == []


def refuse(patch: pytest.MonkeyPatch, name: str, reason: str) -> None:
    """Let the system refuse to open a file of that name for writing."""
    real = Path.open

    def opened(self: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if self.name == name and "w" in mode:
            raise OSError(5, reason)
        return real(self, mode, *rest, **more)  # type: ignore[call-overload]

    patch.setattr(Path, "open", opened)


def test_a_full_disk_while_unpacking_leaves_nothing_half(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refuse(patch, "b.jpg", "No space left on device")
        with pytest.raises(DataError, match="No space left on device"):
            fetch(things(), tmp_path / "d", url=site.url)
    assert sorted(tree(tmp_path / "d")) == ["archives/things.tgz", "fetched.json"]
    fetch(things(), tmp_path / "d", url=site.url)
    assert len(site.asked) == 1


def test_a_stop_while_unpacking_is_gone_on_with(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a kill -9 tidies nothing up
        patch.setattr(os, "sync", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(things(), tmp_path / "d", url=site.url)
    assert any(path.name.startswith(".unpacking-") for path in (tmp_path / "d").iterdir())
    assert not (tmp_path / "d" / "things").exists()
    fetch(things(), tmp_path / "d", url=site.url)
    assert not any(path.name.startswith(".unpacking-") for path in (tmp_path / "d").iterdir())
    assert len(site.asked) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_two_at_once_do_not_mix(site: Site, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with contextlib.ExitStack() as stack:
        stack.enter_context(module._alone(tmp_path / "d"))
        with pytest.raises(DataError, match="another `solobox download`"):
            fetch(things(), tmp_path / "d", url=site.url)
    fetch(things(), tmp_path / "d", url=site.url)


def test_a_missing_module_is_told_before_anything_is_loaded(site: Site, tmp_path: Path) -> None:
    kind = replace(things(), needs=("no_such_module_here",))
    with pytest.raises(ConfigError, match=r"needs no_such_module_here.*\[fetch\]"):
        fetch(kind, tmp_path / "d", url=site.url)
    assert not (tmp_path / "d").exists()
    assert site.asked == []


def test_a_url_that_is_not_https_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only https"):
        fetch("selfie", tmp_path / "d", url="http://example.org/mirror")
    assert not (tmp_path / "d").exists()


def test_a_set_may_be_named(site: Site, tmp_path: Path) -> None:
    site.files = {f"/{name}": content for name, content in selfie().items()}
    assert fetch("selfie", tmp_path / "d", url=site.url).counts["unlabelled.csv"] == 3
    # The real sum of an archive is not that of a miniature: what is published is indeed compared.
    site.files = {f"/{name}": content for name, content in cub200().items()}
    with pytest.raises(DataError, match="1,150,585,339"):
        fetch("cub200", tmp_path / "birds", url=site.url)
