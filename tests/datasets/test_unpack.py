import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from fetch_archives import Listener, link, tar_of, zip_of
from hypothesis import given
from hypothesis import strategies as st

from solobox.datasets.unpack import Limits, _leads_out, unpack
from solobox.errors import DataError

LIMITS = Limits(bytes=1 << 20, members=100)
FILES = {"top/a.txt": b"a" * 1000, "top/deep/b.txt": b"b", "c.txt": b""}


def unpacked(tmp_path: Path, content: bytes, limits: Limits = LIMITS) -> tuple[dict[str, bytes], Listener]:
    (tmp_path / "it").write_bytes(content)
    listener = Listener()
    unpack(tmp_path / "it", tmp_path / "out", limits, listener)
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    return found, listener


def refusal(tmp_path: Path, content: bytes, limits: Limits = LIMITS) -> str:
    """The error of unpacking; whatever was made lies in the folder for it, and is a plain file or a folder."""
    with pytest.raises(DataError) as caught:
        unpacked(tmp_path, content, limits)
    assert {path.name for path in tmp_path.iterdir()} == {"it", "out"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    return str(caught.value)


@pytest.mark.parametrize(
    "pack", [tar_of, lambda files: tar_of(files, "w"), zip_of], ids=["tgz", "tar", "zip"]
)
def test_files_come_out_as_they_went_in(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    found, listener = unpacked(tmp_path, pack(FILES))
    assert found == FILES
    ((stage, total, done),) = listener.stages
    assert stage == "unpacking it, MiB"
    assert total == done == 1


def test_leavings_of_macos_are_left_out(tmp_path: Path) -> None:
    junk = {"__MACOSX/a": b"1", "top/._a.xml": b"2", "./top/a.xml": b"3"}
    assert unpacked(tmp_path, tar_of(junk))[0] == {"top/a.xml": b"3"}


@pytest.mark.parametrize("pack", [tar_of, zip_of], ids=["tar", "zip"])
@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil", "\\\\host\\evil", "a/../b"]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, pack) -> None:  # type: ignore[no-untyped-def]
    assert "leads out" in refusal(tmp_path, pack({name: b"x"}))


@pytest.mark.parametrize("goal", ["/etc/passwd", "../../out", "../../../etc", "..\\..\\x"])
def test_links_that_lead_out_are_refused(tmp_path: Path, goal: str) -> None:
    assert "leads out" in refusal(tmp_path, tar_of({"top/link": link(goal), "top/link/x": b"x"}))
    assert "leads out" in refusal(tmp_path, tar_of({"top/link": link(goal, tarfile.LNKTYPE)}))


def test_links_within_are_left_out_and_counted(tmp_path: Path) -> None:
    files: dict[str, bytes | tarfile.TarInfo] = {
        "top/a.txt": b"a",
        "top/b.txt": link("a.txt"),
        "top/d/c": link("../a.txt"),
    }
    found, listener = unpacked(tmp_path, tar_of(files))
    assert found == {"top/a.txt": b"a"}
    assert listener.said == ["it: 2 links were left out"]


def test_links_in_a_zip_are_looked_through(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo("top/link")
        member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    assert "leads out" in refusal(tmp_path, buffer.getvalue())


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    assert "neither a file nor a folder" in refusal(tmp_path, tar_of({"null": link("", kind)}))


@pytest.mark.parametrize("pack", [tar_of, zip_of], ids=["tar", "zip"])
def test_bombs_are_stopped(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    assert "unpacks to more than 1.0 MiB" in refusal(tmp_path, pack({"big": bytes(3 << 20)}))
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 1 << 20
    many = {f"{n}": b"" for n in range(101)}
    assert "more than 100 members" in refusal(tmp_path, pack(many))


def test_a_tar_of_endless_headers_is_stopped(tmp_path: Path) -> None:
    comment = {"comment": "x" * (3 << 20)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers=comment) as tar:
        tar.addfile(tarfile.TarInfo("a"))
    assert "unpacks to more than" in refusal(tmp_path, buffer.getvalue())


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("pack", [tar_of, zip_of], ids=["tar", "zip"])
def test_archives_cut_short_are_refused(tmp_path: Path, share: float, pack) -> None:  # type: ignore[no-untyped-def]
    whole = pack({f"{n}": bytes([n, n * 7 % 256, n * n % 256]) * 99 for n in range(40)})
    message = refusal(tmp_path, whole[: int(len(whole) * share)])
    assert "cut short" in message or "cannot be unpacked" in message


def test_a_plain_tar_cut_within_a_file_is_refused(tmp_path: Path) -> None:
    whole = tar_of({"a": b"a" * 5000}, "w")
    assert "it: " in refusal(tmp_path, whole[:3000])


def test_a_broken_header_does_not_hide_the_rest(tmp_path: Path) -> None:
    plain = bytearray(tar_of({"a": b"1" * 20_000, "b": b"2" * 20_000}, "w"))
    at = plain.index(b"b\0\0\0")
    plain[at : at + 512] = b"\xff" * 512
    refusal(tmp_path, gzip.compress(bytes(plain)))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    assert "cannot be unpacked" in refusal(tmp_path, b"<html>not found</html>" * 100)
    assert "cannot be unpacked" in refusal(tmp_path, b"")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    (tmp_path / "it").write_bytes(tar_of(FILES))
    with pytest.raises(DataError, match="cannot be written"):
        unpack(tmp_path / "it", tmp_path / "out", LIMITS, Listener())


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "C:"]), min_size=1, max_size=6).map("/".join)


@given(NAMES, NAMES)
def test_what_leads_out_is_what_a_file_system_would_say(name: str, base: str) -> None:
    if not _leads_out(name):
        assert Path("/root/x").joinpath(name).resolve().is_relative_to("/root/x")
    if not _leads_out(base) and not _leads_out(name, base):
        assert Path("/root/x").joinpath(base, name).resolve().is_relative_to("/root/x")
