"""Which hosts and origins a request may name.

A page of another site can have its own name resolve to this machine (DNS rebinding). The browser then takes the server
for that site, and the page may read every response: only the header Host tells such a request from a real one.
Starlette's TrustedHostMiddleware looks at Host alone, cuts an IPv6 address at its first colon, and answers in text.
"""

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from solobox.errors import ConfigError
from solobox.serve.errors import HTTPError

ANY = "*"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d*)?")
_PORTS = {"http": 80, "https": 443}


class HostPolicy:
    """Hosts and origins of one server.

    bound: names and addresses that the server listens at. One for all addresses stands for every IP address, which no
        page can have resolve to another, and for this machine's name.
    hosts: further names, or ``*`` for any. origins: sites whose pages may use the server, as ``https://example.org``.

    Raises ConfigError (``address-invalid``) for what is neither.
    """

    def __init__(
        self, bound: tuple[str, ...], hosts: tuple[str, ...] = (), origins: tuple[str, ...] = ()
    ) -> None:
        self._hosts = {name.strip("[]").lower() for name in bound} | {_host_name(host) for host in hosts}
        self.origins = frozenset(_site(origin) for origin in origins)
        self._all_addresses = False
        for address in map(_address, bound):
            if address is None:
                continue
            self._all_addresses |= address.is_unspecified
            if address.is_loopback or address.is_unspecified:
                self._hosts |= {"localhost", "127.0.0.1", "::1"}
        if self._all_addresses:
            self._hosts.add(socket.gethostname().lower())

    def refusal(self, headers: Headers) -> HTTPError | None:
        """Why a request with these headers is refused (403), or None. Programs send no Origin and pass."""
        host = headers.get("host", "")  # HTTP/1.0 has none, and no browser speaks it
        if host and not self._knows(host):
            return HTTPError(
                403,
                "host-not-allowed",
                f"this server is not {host[:80]!r}",
                "Use the address that it prints when it starts; its operator can allow more with --allow-host.",
            )
        origin = headers.get("origin")
        if origin is None or self.allows_origin(origin) or _same(origin, host):
            return None
        return HTTPError(
            403,
            "cross-site-request",
            "a page of another site sent this",
            "Use the page of this server, or a program; its operator can allow the site with --allow-origin.",
        )

    def allows_origin(self, origin: str | None) -> bool:
        """Whether the origin is one of `origins`."""
        return origin is not None and origin.lower() in self.origins

    def _knows(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].strip("[]").lower()
        if name.rstrip(".") in self._hosts or ANY in self._hosts:
            return True
        return self._all_addresses and _address(name) is not None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _host_name(host: str) -> str:
    if host != ANY and not _NAME.fullmatch(host) and _address(host) is None:
        raise ConfigError(
            f"--allow-host {host}: give a name or an address alone, such as model.example.org, or * for any",
            code="address-invalid",
        )
    return host.strip("[]").rstrip(".").lower()


def _site(origin: str) -> str:
    match = re.fullmatch(r"https?://[A-Za-z0-9._:\[\]-]+", origin.rstrip("/"))
    if match is None:
        raise ConfigError(
            f"--allow-origin {origin}: give the scheme and the host of a site, such as https://example.org",
            code="address-invalid",
        )
    return match[0].lower()


def _same(origin: str, host: str) -> bool:
    """Whether the origin is this very server, as the browser reached it. A proxy may have turned https into http."""
    try:
        site, here = urlsplit(origin), urlsplit(f"//{host}")
        default = _PORTS.get(site.scheme)
        return default is not None and (
            (site.hostname, site.port or default) == (here.hostname, here.port or default)
        )
    except ValueError:
        return False
