"""The images of Label Studio's tasks, from that Label Studio alone.

Whoever can send a request names the addresses, and this server stands where that sender may not: it must not fetch from
anywhere else (server-side request forgery). So an address is either the image itself, as a ``data:`` URI, or one of the
media of the Label Studio that the server was started for: the same scheme, host and port, below ``/data/`` or
``/storage-data/``. Redirects are not followed, and no file is ever opened: ``/data/local-files/`` is Label Studio's own
address, which it answers or refuses.
"""

import asyncio
import base64
import binascii
import contextlib
import http.client
import json
import threading
import time
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit

from solobox.errors import ConfigError, reason
from solobox.serve.errors import HTTPError
from solobox.serve.settings import ServerSettings

TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"  # noqa: S105  (a name)

_MEDIA = ("/data/", "/storage-data/")
_PORTS = {"http": 80, "https": 443}
_PIECE = 1 << 16
_ACCESS_SECONDS = 120.0
"""How long an access token is used; Label Studio's are valid for five minutes."""


class LabelStudioImages:
    """url: of Label Studio. token: of a user who may see the images: a personal access token or a legacy token.

    Raises ConfigError (``address-invalid``) for a URL that is none.
    """

    def __init__(self, url: str, token: str | None, settings: ServerSettings) -> None:
        parts = _split(url.rstrip("/"))
        if parts is None or parts.query or parts.fragment or parts.username is not None:
            raise ConfigError(
                f"--label-studio {url}: this is no address of Label Studio; write it as its pages show it, such as "
                "http://localhost:8080",
                code="address-invalid",
            )
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise ConfigError(f"{TOKEN_VARIABLE} is no token of Label Studio", code="api-key-invalid")
        self._site, self._token, self._settings = parts, token, settings
        self._access = ("", 0.0)
        self._lock = threading.Lock()

    async def fetch(self, address: str) -> bytes:
        """The bytes of an image. Raises HTTPError: 422 for an address that is not fetched, 502 where that fails."""
        if address.startswith("data:"):
            return _inline(address)
        return await asyncio.to_thread(self._get, self.path_of(address))

    def path_of(self, address: str) -> str:
        """The path and query of an address in Label Studio. Raises HTTPError (422) ``image-elsewhere``."""
        parts = (
            urlsplit(address) if address.startswith("/") and not address.startswith("//") else _split(address)
        )
        if parts is None or (parts.scheme and _origin(parts) != _origin(self._site)):
            raise _elsewhere(address)
        path = parts.path
        if self._site.path and path.startswith(f"{self._site.path}/"):
            path = path.removeprefix(self._site.path)
        plain = unquote(unquote(path))
        if not plain.startswith(_MEDIA) or ".." in plain.split("/") or "\\" in plain:
            raise _elsewhere(address)
        path = quote(unquote(path), safe="/:@!$&'()*+,;=~")
        query = quote(parts.query, safe="/:@!$&'()*+,;=~%?")
        return self._site.path + path + (f"?{query}" if query else "")

    def _get(self, path: str) -> bytes:
        status, content = self._request("GET", path, self._authorization())
        if status in (301, 302, 303, 307, 308):
            raise HTTPError(
                422, "image-elsewhere", "Label Studio keeps this image elsewhere (it redirects)",
                "Images in cloud storage are not fetched: use Label Studio's own or local files.",
            )  # fmt: skip
        if status in (401, 403):
            raise HTTPError(
                502, "label-studio-refuses", f"Label Studio refuses to give the image (status {status})",
                f"Start the server with {TOKEN_VARIABLE}, the token of a user who may see the project.",
            )  # fmt: skip
        if status != 200:
            raise HTTPError(
                502, "label-studio-failed", f"Label Studio does not give the image (status {status})",
                "Open the task in Label Studio: does it show the image?",
            )  # fmt: skip
        return content

    def _authorization(self) -> dict[str, str]:
        token = self._token
        if token is None:
            return {}
        if token.count(".") != 2:
            return {"Authorization": f"Token {token}"}
        with self._lock:  # a personal access token is exchanged for one of some minutes
            access, until = self._access
            if time.monotonic() >= until:
                body = json.dumps({"refresh": token}).encode()
                path = f"{self._site.path}/api/token/refresh"
                status, content = self._request("POST", path, {"Content-Type": "application/json"}, body)
                try:
                    access = str(json.loads(content)["access"]) if status == 200 else ""
                except (ValueError, KeyError, TypeError):
                    access = ""
                if not (access.isascii() and access.isprintable() and access):
                    raise HTTPError(
                        502, "label-studio-refuses", f"Label Studio refuses the token (status {status})",
                        f"Start the server with a valid token in {TOKEN_VARIABLE}.",
                    )  # fmt: skip
                self._access = (access, time.monotonic() + _ACCESS_SECONDS)
        return {"Authorization": f"Bearer {access}"}

    def _request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Status and body of a response, within the limits of bytes and of time."""
        site, limits = self._site, self._settings
        kind = http.client.HTTPSConnection if site.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(site.hostname), site.port, timeout=limits.read_timeout)
        end = time.monotonic() + limits.deadline
        try:
            connection.request(method, path, body, headers | {"Accept-Encoding": "identity"})
            with contextlib.closing(connection.getresponse()) as response:
                return response.status, _read(response, limits, end)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HTTPError(
                502, "label-studio-unreachable", f"Label Studio cannot be reached ({reason(error)[:200]})",
                "Is it running at the address of --label-studio?",
            ) from None  # fmt: skip
        finally:
            connection.close()


def _read(response: http.client.HTTPResponse, limits: ServerSettings, end: float) -> bytes:
    """The whole body. end: on the monotonic clock. Raises HTTPError (413), TimeoutError, IncompleteRead."""
    pieces, size = [], 0
    while piece := response.read1(_PIECE):
        size += len(piece)
        if size > limits.max_bytes:
            raise HTTPError(
                413,
                "image-too-large",
                f"the image has more than {limits.max_bytes:,} bytes",
                "Save it smaller.",
            )
        if time.monotonic() > end:
            raise TimeoutError(f"it sends too slowly, {limits.deadline:g} s are over")
        pieces.append(piece)
    if response.length:  # http.client ends quietly where a body is cut
        raise http.client.IncompleteRead(b"".join(pieces), response.length)
    return b"".join(pieces)


def _split(url: str) -> SplitResult | None:
    """The parts of an http(s) URL with a host; None for anything else."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in _PORTS and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def _inline(address: str) -> bytes:
    head, comma, content = address.partition(",")
    try:
        if not comma:
            raise ValueError
        raw = unquote_to_bytes(content)
        return base64.b64decode(raw, validate=True) if head.endswith(";base64") else raw
    except (ValueError, binascii.Error):
        raise HTTPError(
            422, "image-damaged", "this data: URI is damaged", "Write it as data:image/jpeg;base64,..."
        ) from None


def _elsewhere(address: str) -> HTTPError:
    return HTTPError(
        422, "image-elsewhere",
        f"{address[:80]!r} is not an image of the Label Studio that this server was started for",
        "Upload images to Label Studio, or serve them as its local files.",
    )  # fmt: skip
