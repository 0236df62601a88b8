import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from miniatures import Listener, link, tar_of, zip_of

from solobox.datasets.public import Limits
from solobox.datasets.unpack import unpack
from solobox.errors import DataError

LIMITS = Limits(bytes=1 << 20, members=100)
FILES = {"top/a.txt": b"a" * 1000, "top/deep/b.txt": b"b", "c.txt": b""}
Pack = Callable[[Mapping[str, bytes]], bytes]


def unpacked(tmp_path: Path, content: bytes, limits: Limits = LIMITS) -> dict[str, bytes]:
    (tmp_path / "it").write_bytes(content)
    unpack(tmp_path / "it", tmp_path / "out", limits, Listener())
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    return {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }


def refusal(tmp_path: Path, content: bytes, limits: Limits = LIMITS) -> str:
    """The code of the error; nothing lies outside the folder, and no link in it."""
    with pytest.raises(DataError) as caught:
        unpacked(tmp_path, content, limits)
    assert {path.name for path in tmp_path.iterdir()} == {"it", "out"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert str(tmp_path / "it") in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    "pack", [tar_of, lambda files: tar_of(files, "w"), zip_of], ids=["tgz", "tar", "zip"]
)
def test_files_come_out_as_they_went_in(tmp_path: Path, pack: Pack) -> None:
    assert unpacked(tmp_path, pack(FILES)) == FILES


@pytest.mark.parametrize("pack", [tar_of, zip_of], ids=["tar", "zip"])
def test_what_macos_adds_is_left_out(tmp_path: Path, pack: Pack) -> None:
    junk = {"__MACOSX/a": b"1", "top/._a.xml": b"2", "./top/a.xml": b"3"}
    assert unpacked(tmp_path, pack(junk)) == {"top/a.xml": b"3"}


@pytest.mark.parametrize("pack", [tar_of, zip_of], ids=["tar", "zip"])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil"])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str, pack: Pack) -> None:
    assert refusal(tmp_path, pack({name: b"x"})) == "archive-unsafe"


@pytest.mark.parametrize("name", ["/etc/evil", "C:\\evil", "..\\evil", "\\\\host\\evil"])
def test_absolute_and_windows_names_stay_inside_or_are_refused(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, zip_of({name: b"x"})) == "archive-unsafe"
    assert list(unpacked(tmp_path, tar_of({name: b"x"})).values()) == [b"x"]
    assert {path.name for path in tmp_path.iterdir()} == {"it", "out"}


@pytest.mark.parametrize("target", ["/etc", "../..", "../../../etc", "a.txt"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_never_made_nor_written_through(tmp_path: Path, target: str, kind: bytes) -> None:
    files: dict[str, bytes | tarfile.TarInfo] = {
        "top/a.txt": b"a",
        "top/link": link(target, kind),
        "top/link/evil.txt": b"x",
    }
    assert unpacked(tmp_path, tar_of(files)) == {"top/a.txt": b"a", "top/link/evil.txt": b"x"}
    assert {path.name for path in tmp_path.iterdir()} == {"it", "out"}


def test_a_link_in_a_zip_becomes_a_plain_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo("top/link")
        member.create_system, member.external_attr = 3, 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    assert unpacked(tmp_path, buffer.getvalue()) == {"top/link": b"/etc/passwd"}


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    assert refusal(tmp_path, tar_of({"null": link("", kind)})) == "archive-unsafe"


@pytest.mark.parametrize("pack", [tar_of, zip_of], ids=["tar", "zip"])
def test_bombs_are_stopped(tmp_path: Path, pack: Pack) -> None:
    assert refusal(tmp_path, pack({"big": bytes(3 << 20)})) == "archive-too-large"
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 1 << 20
    assert refusal(tmp_path, pack({f"{n}": b"" for n in range(101)})) == "archive-too-large"


def test_a_zip_that_lies_about_its_size_does_not_grow(tmp_path: Path) -> None:
    bomb = zip_of({"big": bytes(3 << 20)})
    honest = (3 << 20).to_bytes(4, "little")
    assert bomb.count(honest) == 2  # before the content, and in the directory at the end
    assert refusal(tmp_path, bomb.replace(honest, (1000).to_bytes(4, "little"))) == "archive-damaged"
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 1000


def test_a_tar_of_endless_headers_is_stopped(tmp_path: Path) -> None:
    comment = {"comment": "x" * (3 << 20)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers=comment) as tar:
        tar.addfile(tarfile.TarInfo("a"))
    assert refusal(tmp_path, buffer.getvalue()) == "archive-too-large"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("pack", [tar_of, zip_of], ids=["tar", "zip"])
def test_truncated_archives_are_refused(tmp_path: Path, share: float, pack: Pack) -> None:
    whole = pack({f"{n}": bytes([n, n * 7 % 256, n * n % 256]) * 99 for n in range(40)})
    assert refusal(tmp_path, whole[: int(len(whole) * share)]) == "archive-damaged"


def test_a_plain_tar_that_ends_within_a_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, tar_of({"a": b"a" * 5000}, "w")[:3000]) == "archive-damaged"


def test_a_damaged_header_does_not_hide_the_rest(tmp_path: Path) -> None:
    plain = bytearray(tar_of({"a": b"1" * 20_000, "b": b"2" * 20_000}, "w"))
    header = plain.index(b"b\0\0\0")
    plain[header : header + 512] = b"\xff" * 512
    assert refusal(tmp_path, gzip.compress(bytes(plain))) == "archive-damaged"


@pytest.mark.parametrize("content", [b"<html>not found</html>" * 100, b""])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path, content) == "archive-damaged"


def test_a_folder_that_cannot_be_made_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(DataError):
        unpacked(tmp_path, tar_of(FILES))
