"""Every limit of the server, with its default. All of them are always on."""

import string
from dataclasses import dataclass, field

from solobox.errors import ConfigError

KEY_VARIABLE = "SOLOBOX_API_KEY"
_MIN_KEY_LENGTH = 16
_CREATE_KEY = "Create one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What the server accepts, and how long it waits. Sizes in bytes or pixels, times in seconds.

    max_bytes: body of a request. max_json: JSON of a tensor; no other thread runs while Python parses it.
    max_pixels: width times height of an image, read from its header. max_images: images in one request.
    max_queue: images that wait or are in work; further ones get a 429.
    max_batch: images that go through the model together. max_connections: open connections, and
    max_client_connections: those of one client, an IPv4 address or a /64 network of IPv6.
    deadline: from the last byte of a request to its response, else 504.
    drain: from SIGTERM to the exit. drain_delay: the first part of it, in which new connections are still accepted with
        readiness off, as long as load balancers need to notice.
    head_timeout: for the head of a request. read_timeout: between two pieces of a body. body_timeout: for a whole body.
    linger: how long the rest of a refused body is read and discarded, so that its sender gets to read why.
    bound: names and addresses that the server listens at. allow_hosts, allow_origins: see `HostPolicy`.
    api_key: what every request must carry, except for the page and for health checks; None for no key.

    Raises ConfigError (``out-of-range``) for impossible values.
    """

    max_bytes: int = 32_000_000
    max_json: int = 4_000_000
    max_pixels: int = 50_000_000
    max_images: int = 16
    max_queue: int = 64
    max_batch: int = 8
    max_connections: int = 256
    max_client_connections: int = 128
    deadline: float = 10.0
    drain: float = 20.0
    drain_delay: float = 1.0
    head_timeout: float = 10.0
    read_timeout: float = 10.0
    body_timeout: float = 60.0
    linger: float = 2.0
    bound: tuple[str, ...] = ("127.0.0.1",)
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, int | float):
                continue
            if not value > 0 and not (value == 0 and name in ("drain_delay", "linger")):
                raise ConfigError(f"{name} is more than 0, not {value}", code="out-of-range")
        if self.max_queue < self.max_images:
            raise ConfigError(
                f"a queue of {self.max_queue} images cannot hold a request of {self.max_images}: make the queue "
                "longer",
                code="out-of-range",
            )

    @property
    def max_body_memory(self) -> int:
        """Bytes of all bodies in memory together; beyond it new requests get a 429."""
        return 16 * self.max_bytes


def parse_api_key(value: str | None) -> str | None:
    """The API key from the value of the environment variable; None where it is not set.

    Raises ConfigError (``api-key-invalid``) for a key that does not fit into a header or is easy to guess.
    """
    if value is None:
        return None
    key = value.strip()
    if not key:
        raise _invalid_key(f"{KEY_VARIABLE} is set, but empty. Unset it to use no key, or give it one.")
    if not set(key) <= set(string.ascii_letters + string.digits + string.punctuation):
        raise _invalid_key(f"{KEY_VARIABLE} must be ASCII without spaces, to fit into a header.")
    if len(key) < _MIN_KEY_LENGTH:
        raise _invalid_key(
            f"{KEY_VARIABLE} has {len(key)} characters and is easy to guess: give it {_MIN_KEY_LENGTH} or more."
        )
    return key


def _invalid_key(text: str) -> ConfigError:
    return ConfigError(f"{text} {_CREATE_KEY}", code="api-key-invalid")
