import io
import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from fetch_archives import Listener
from fetch_server import Site, serving

from solobox.datasets import download
from solobox.datasets.progress import Silent
from solobox.datasets.writing import write
from solobox.errors import ConfigError, DataError

CONTENT = bytes(range(256)) * 8000  # 2 MB
OTHER = CONTENT[::-1]


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({"/f.bin": CONTENT})) as ready:
        yield ready


def load(site: Site, part: Path, *, checked: bool = False, size: int | None = None) -> Listener:
    listener = Listener()
    download.download(f"{site.url}/f.bin", part, size=size, checked=checked, progress=listener)
    return listener


def test_a_file_arrives_whole(site: Site, tmp_path: Path) -> None:
    listener = load(site, tmp_path / "f.bin.part", size=len(CONTENT))
    assert (tmp_path / "f.bin.part").read_bytes() == CONTENT
    assert listener.stages == [["downloading f.bin, MiB", 2, 2]]
    assert site.asked == [("/f.bin", None, None)]


def test_a_dropped_connection_is_resumed_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.drops = [700_000, 500_000]
    listener = load(site, tmp_path / "f.part")
    assert (tmp_path / "f.part").read_bytes() == CONTENT
    etag = site.etag("/f.bin")
    assert site.asked == [
        ("/f.bin", None, None),
        ("/f.bin", "bytes=700000-", etag),
        ("/f.bin", "bytes=1200000-", etag),
    ]
    assert len(listener.said) == 2
    assert "connection was lost" in listener.said[0]
    assert listener.stages == [["downloading f, MiB", 2, 2]]  # one bar, which went on


def test_what_is_given_up_is_kept_and_gone_on_with_by_the_next_run(site: Site, tmp_path: Path) -> None:
    site.drops = [600_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"given up after 4 tries.*f\.part.*goes on from there"):
        load(site, tmp_path / "f.part")
    assert (tmp_path / "f.part").read_bytes() == CONTENT[:600_000]
    site.drops, site.asked = [], []
    load(site, tmp_path / "f.part")
    assert (tmp_path / "f.part").read_bytes() == CONTENT
    assert site.ranges_asked() == ["bytes=600000-"]


def test_failures_count_only_while_nothing_new_arrives(site: Site, tmp_path: Path) -> None:
    site.drops = [1000] * 20  # far more breaks than tries, each a little further on
    load(site, tmp_path / "f.part")
    assert (tmp_path / "f.part").read_bytes() == CONTENT
    assert len(site.asked) == 21


def test_a_server_that_ignores_ranges_sends_it_all_again(site: Site, tmp_path: Path) -> None:
    site.ranges, site.drops = False, [700_000]
    listener = load(site, tmp_path / "f.part")
    assert (tmp_path / "f.part").read_bytes() == CONTENT
    assert site.ranges_asked() == [None, "bytes=700000-"]
    assert "starting over" in listener.said[-1]


def test_a_server_that_ignores_ranges_and_always_breaks_is_given_up(site: Site, tmp_path: Path) -> None:
    site.ranges, site.drops = False, [700_000, 10, 600_000, 20, 650_000, 30]
    with pytest.raises(DataError, match="given up"):
        load(site, tmp_path / "f.part")


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_changed_in_between_is_loaded_anew(site: Site, tmp_path: Path, heeds: bool) -> None:
    site.drops, site.heeds_if_range = [700_000, 0, 0, 0, 0], heeds
    with pytest.raises(DataError):
        load(site, tmp_path / "f.part")
    site.files["/f.bin"], site.drops = OTHER, []
    listener = load(site, tmp_path / "f.part")
    assert (tmp_path / "f.part").read_bytes() == OTHER
    assert "starting over" in listener.said[0]


def test_bytes_that_cannot_be_told_from_another_version_are_not_built_upon(
    site: Site, tmp_path: Path
) -> None:
    site.validators, site.drops = False, [700_000]
    load(site, tmp_path / "f.part")
    assert (tmp_path / "f.part").read_bytes() == CONTENT
    assert site.ranges_asked() == [None, None]


def test_with_a_published_checksum_bytes_are_built_upon_even_from_another_server(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT[:500_000])
    (tmp_path / "f.part.json").write_text(
        json.dumps({"url": "https://a.test/f", "validator": '"x"', "size": 9})
    )
    load(site, tmp_path / "f.part", checked=True)
    assert (tmp_path / "f.part").read_bytes() == CONTENT
    assert site.asked == [("/f.bin", "bytes=500000-", None)]


def test_a_complete_part_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    load(site, tmp_path / "f.part")
    load(site, tmp_path / "f.part")
    assert len(site.asked) == 1
    (tmp_path / "f.part.json").unlink()  # then nothing is known of it, but that it may be whole
    load(site, tmp_path / "f.part", checked=True)
    assert site.ranges_asked() == [None, f"bytes={len(CONTENT)}-"]
    assert (tmp_path / "f.part").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(site: Site, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT + b"more")
    load(site, tmp_path / "f.part", checked=True)
    assert (tmp_path / "f.part").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(site: Site, tmp_path: Path) -> None:
    site.failing = [503, 429]
    load(site, tmp_path / "f.part")
    assert len(site.asked) == 3
    site.failing, site.asked = [404], []
    with pytest.raises(DataError, match=r"answered 404 .*--url.*put it at .*/other$"):
        download.download(
            f"{site.url}/f.bin", tmp_path / "other.part", size=None, checked=False, progress=Silent()
        )
    assert len(site.asked) == 1


def test_a_file_of_another_size_is_refused_before_it_is_loaded(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"offers 2,048,000 bytes, but the archive has 2,047,999"):
        load(site, tmp_path / "f.part", size=len(CONTENT) - 1)
    assert not (tmp_path / "f.part").exists()


def test_without_a_length_the_declared_size_tells_a_break(site: Site, tmp_path: Path) -> None:
    site.lengths, site.drops = False, [700_000]
    load(site, tmp_path / "f.part", size=len(CONTENT))
    assert (tmp_path / "f.part").read_bytes() == CONTENT


def test_redirects_are_followed_but_not_out_of_https(site: Site, tmp_path: Path) -> None:
    traps = {
        "/plain": "http://example.org/f.bin",
        "/local": "file:///etc/passwd",
        "/ftp": "ftp://127.0.0.1/f",
    }
    site.moved = {"/old": f"{site.url}/f.bin", **traps}
    download.download(f"{site.url}/old", tmp_path / "f.part", size=None, checked=False, progress=Silent())
    assert (tmp_path / "f.part").read_bytes() == CONTENT
    for path in traps:
        with pytest.raises((ConfigError, DataError), match=r"only https|not allowed"):
            download.download(
                f"{site.url}{path}", tmp_path / "g", size=None, checked=False, progress=Silent()
            )
    request = urllib.request.Request("https://example.org/f")
    with pytest.raises(ConfigError, match="not https"):
        download._Redirects().redirect_request(
            request, io.BytesIO(), 302, "Found", Message(), f"{site.url}/f.bin"
        )


@pytest.mark.parametrize(
    "url", ["http://example.org/f", "ftp://127.0.0.1/f", "file:///etc/passwd", "f.bin", "http://[x/f"]
)
def test_only_https_and_loopback_are_allowed(url: str) -> None:
    with pytest.raises(ConfigError):
        download.allowed(url)
    for fine in ("https://example.org/f", "http://localhost:8/f", "http://[::1]/f", "http://127.3.2.1/f"):
        download.allowed(fine)


def test_a_disk_without_room_is_told_before_anything_is_loaded(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 10**6))
    with pytest.raises(DataError, match=r"2\.0 MiB more are needed, only 1\.0 MiB are free"):
        load(site, tmp_path / "f.part")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_an_error_and_not_a_lost_connection(site: Site) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full to write to")
    with pytest.raises(DataError, match=r"/dev/full: cannot be written"):
        load(site, Path("/dev/full"))
    assert len(site.asked) == 1


def test_a_server_that_says_nothing_is_left_and_asked_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.2)
    site.hangs = 1
    listener = load(site, tmp_path / "f.part")
    assert (tmp_path / "f.part").read_bytes() == CONTENT
    assert "timed out" in listener.said[0]


def test_a_server_that_is_not_there_is_given_up(tmp_path: Path) -> None:
    with serving(Site({})) as gone:
        pass
    with serving(Site({})), pytest.raises(DataError, match=r"no connection.*given up after 4 tries"):
        load(gone, tmp_path / "f.part")


def test_an_invalid_certificate_is_no_reason_to_try_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        error = ssl.SSLCertVerificationError()
        error.verify_message = "self-signed certificate"
        raise urllib.error.URLError(error)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refused)
    with pytest.raises(DataError, match=r"certificate is not valid: self-signed.*with a browser"):
        load(site, tmp_path / "f.part")


def test_a_system_that_takes_less_than_it_is_given_loses_nothing(tmp_path: Path) -> None:
    class Slow(io.FileIO):
        def write(self, block: object) -> int:
            assert isinstance(block, memoryview)
            return super().write(block[:7])

    with Slow(tmp_path / "f", "wb") as file:
        write(tmp_path / "f", file, CONTENT[:1000])
    assert (tmp_path / "f").read_bytes() == CONTENT[:1000]
