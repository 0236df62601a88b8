"""One file over HTTP: resumed where it broke off, never a mixture of two versions, whole or kept for later."""

import http.client
import ipaddress
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from solobox.datasets.progress import Meter, Progress, mib
from solobox.datasets.writing import opened, write
from solobox.errors import ConfigError, DataError
from solobox.utils.atomic import explained, replacing

PATIENCE = 60.0
"""Seconds without a byte after which a connection counts as lost."""
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds to wait before trying again; failures are counted anew once it has got further."""

_BLOCK = 1 << 18
_LONGEST_WAIT = 120.0
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


def download(url: str, part: Path, *, size: int | None, checked: bool, progress: Progress) -> None:
    """Bring the file at `url` into `part`, going on from the bytes that are there.

    size: what the whole file must have, in bytes; None where unknown. checked: whether a published checksum
    will be compared afterwards. Without one, bytes that are there are only built upon where the server can
    tell that they are of the same version (by its ETag or date); with one, also across servers.

    Lost connections and busy servers are tried again, with pauses. When it is given up the bytes stay in
    `part`, and a file beside it says what they are. ``DataError`` for that, for a file that is not there or
    has another size, and for a full disk; ``ConfigError`` for a URL that is neither https nor loopback.
    """
    allowed(url)
    transfer = _Transfer(url, part, size, progress, checked=checked)
    failures, most = 0, length(part)
    while True:
        try:
            transfer.attempt()
        except _LostError as error:
            kept = length(part)
            failures = 1 if kept > most else failures + 1
            most = max(most, kept)
            if failures > len(WAITS):
                raise DataError(
                    f"{url}: {error}; given up after {failures} tries. {mib(kept)} are kept in {part}: "
                    "the same command goes on from there; --url names another place to load it from"
                ) from None
            wait = max(WAITS[failures - 1], min(error.wait, _LONGEST_WAIT))
            progress.say(f"{error}; {mib(kept)} are here, going on in {wait:g} s")
            time.sleep(wait)
        else:
            return


def length(part: Path) -> int:
    """How many bytes of a file are there; 0 where there is none."""
    try:
        return part.stat().st_size
    except OSError:
        return 0


def forget(part: Path) -> None:
    """Throw away a `.part` file and what is known of it."""
    with explained(part):
        part.unlink(missing_ok=True)
        _beside(part).unlink(missing_ok=True)


def settle(part: Path, target: Path) -> None:
    """Put a complete, verified `.part` file in its place."""
    with explained(target):
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
        _beside(part).unlink(missing_ok=True)


def allowed(url: str) -> None:
    """Refuse (``ConfigError``) what is no https URL, plain http to this machine itself excepted."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise ConfigError(f"{url}: is no URL: {error}") from None
    if host and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        return
    raise ConfigError(
        f"{url}: only https URLs are loaded from, so that nobody on the way can change the file"
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, not an address
        return False


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of the bytes in a `.part` file; kept beside it.

    validator: the strong ETag or else the date that the server gave for this version, or "". size: of the
    whole file in bytes, None where the server did not say.
    """

    url: str = ""
    validator: str = ""
    size: int | None = None


class _LostError(Exception):
    """The connection broke, or the server is busy: worth another try after `wait` seconds."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class _StaleError(Exception):
    """What the server has does not go with the bytes that are here."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, as far as `allowed`, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        allowed(newurl)
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise ConfigError(f"{req.full_url}: leads on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


class _Transfer:
    """One download, over as many attempts as it takes; the arguments are those of `download`."""

    def __init__(self, url: str, part: Path, size: int | None, progress: Progress, *, checked: bool) -> None:
        self._url, self._part, self._size, self._progress = url, part, size, progress
        self._checked = checked
        self._meter = Meter(progress, f"downloading {part.name.removesuffix('.part')}")
        self._opener = urllib.request.build_opener(_Redirects)

    def attempt(self) -> None:
        """Ask for what is missing and write it down until the file is whole; else ``_LostError``."""
        state, have = _read_state(self._part), length(self._part)
        if state.url != self._url:
            state = _State()  # another server's ETags and dates mean nothing here
        elif have and have == state.size and self._size in (None, have):
            return
        if have and (state.validator or self._checked):
            try:
                self._ask(have, state)
            except _StaleError as error:
                self._progress.say(f"{error}: starting over")
            else:
                return
        try:
            self._ask(0, _State())
        except _StaleError as error:
            raise DataError(f"{self._url}: {error}{self._otherwise()}") from None

    def _ask(self, have: int, state: _State) -> None:
        # Some servers and proxies would pack the file once more.
        headers = {"User-Agent": "solobox", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if state.validator:
                headers["If-Range"] = state.validator
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310 (`allowed` has checked it)
        try:
            with self._opener.open(request, timeout=PATIENCE) as response:
                self._receive(response, have, state)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, have)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                why = f"the certificate is not valid: {reason.verify_message}"
                raise DataError(f"{self._url}: {why}{self._otherwise()}") from None
            raise _LostError(f"no connection ({str(reason) or type(reason).__name__})") from None

    def _receive(self, response: http.client.HTTPResponse, have: int, state: _State) -> None:
        validator = _validator(response)
        if response.status == 206:
            match = _RANGE.match(response.headers.get("Content-Range", ""))
            if match is None or match[1] != str(have):
                raise _StaleError("the server sent another part than the one asked for")
            start, total = have, int(match[2]) if match[2] != "*" else None
            if validator and state.validator not in ("", validator):  # If-Range was ignored
                raise _StaleError("the file on the server has changed")
            if total is not None and state.size not in (None, total):
                raise _StaleError("the file on the server has another size now")
            validator = validator or state.validator
        elif response.status == 200:
            declared = response.headers.get("Content-Length", "")
            start, total = 0, int(declared) if declared.isdigit() else None
            if have:
                self._progress.say("the server sent the whole file, changed or not: starting over")
        else:
            raise DataError(f"{self._url}: the server answered {response.status} {response.reason}")
        if self._size is not None and total not in (None, self._size):
            raise DataError(
                f"{self._url}: the server offers {total:,} bytes, but the archive has {self._size:,}: "
                "is it another file?"
            )
        total = total or self._size
        self._room_for((total or 0) - start)
        self._meter.of(total or 0)
        self._write(response, start, _State(self._url, validator, total))

    def _write(self, response: http.client.HTTPResponse, start: int, state: _State) -> None:
        position, part = start, self._part
        with opened(part, "r+b" if start else "wb") as file:
            with explained(part):
                file.seek(start)
            # Only now: what the state says must never be said of bytes of another version.
            with replacing(_beside(part)) as text:
                json.dump(asdict(state), text)
            self._meter.at(position)
            while block := response.read1(_BLOCK):
                write(part, file, block)
                position += len(block)
                self._meter.at(position)
        if state.size is not None and position < state.size:
            raise _LostError("the connection was lost")
        if state.size is not None and position > state.size:
            raise DataError(f"{self._url}: the server sent more than the {state.size:,} bytes it promised")

    def _refused(self, error: urllib.error.HTTPError, have: int) -> None:
        if error.code == 416 and have:
            match = _RANGE.match(error.headers.get("Content-Range", ""))
            if match is not None and match[2] == str(have) and self._size in (None, have):
                return  # nothing is missing
            raise _StaleError("the server has no more bytes than are here")
        if error.code in _BUSY:
            after = error.headers.get("Retry-After", "")
            wait = float(after) if after.isdigit() else 0.0
            raise _LostError(f"the server answered {error.code} {error.reason}", wait)
        raise DataError(f"{self._url}: the server answered {error.code} {error.reason}{self._otherwise()}")

    def _otherwise(self) -> str:
        place = self._part.with_name(self._part.name.removesuffix(".part"))
        return (
            f". --url names another place to load it from; or load it with a browser, and put it at {place}"
        )

    def _room_for(self, needed: int) -> None:
        with explained(self._part):
            free = shutil.disk_usage(self._part.parent).free
        if needed > free:
            raise DataError(f"{self._part.parent}: {mib(needed)} more are needed, only {mib(free)} are free")


def _validator(response: http.client.HTTPResponse) -> str:
    """What names this version of the file; a weak ETag does not, since it stands for several."""
    etag: str = response.headers.get("ETag", "").strip()
    if etag.startswith('"'):
        return etag
    modified: str = response.headers.get("Last-Modified", "").strip()
    return modified


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> _State:
    try:
        stored = json.loads(_beside(part).read_text(encoding="utf-8"))
        state = _State(**stored)
    except (OSError, ValueError, TypeError):  # not there, or not ours: then nothing is known
        return _State()
    return state
