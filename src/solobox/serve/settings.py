"""Every limit of the server, with its default. All of them are always on."""

import string
from dataclasses import dataclass, field

from solobox.errors import ConfigError

KEY_VARIABLE = "SOLOBOX_API_KEY"
_SHORTEST_KEY = 16
_MAKE_ONE = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server accepts, and how long it waits. Sizes in bytes or pixels, times in seconds.

    max_bytes: the body of a request. max_pixels: width times height of an image, read from its header.
    max_images: images in one request. max_queue: images that wait or are worked on; more get a 429.
    max_batch: images that go through the model together. max_connections: open connections.
    deadline: from the last byte of a request to its answer, else 504.
    drain: from SIGTERM to the exit; `settle` of it new connections are still taken, with readiness off, for the time
        that load balancers need.
    head: for the head of a request. pause: between two pieces of a body. upload: for a whole body. linger: how long
        the rest of a refused body is taken and thrown away, so that its sender gets to read why.
    api_key: what every request but those for the page and for health must carry; None for none.

    Raises ConfigError for values that make no sense.
    """

    max_bytes: int = 32_000_000
    max_pixels: int = 50_000_000
    max_images: int = 16
    max_queue: int = 64
    max_batch: int = 8
    max_connections: int = 256
    deadline: float = 10.0
    drain: float = 20.0
    settle: float = 1.0
    head: float = 10.0
    pause: float = 10.0
    upload: float = 60.0
    linger: float = 2.0
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name != "api_key" and not value > 0 and not (value == 0 and name in ("settle", "linger")):
                raise ConfigError(f"{name} is more than 0, not {value}")
        if self.max_queue < self.max_images:
            raise ConfigError(
                f"a queue of {self.max_queue} images cannot hold a request of {self.max_images}: make the queue "
                "longer"
            )

    @property
    def max_held(self) -> int:
        """Bytes of bodies in memory at once, over all requests; beyond it new ones get a 429."""
        return 16 * self.max_bytes


def checked_key(given: str | None) -> str | None:
    """The API key as the environment gives it; None where the variable is not set.

    Raises ConfigError for a key that cannot be sent in a header or that anyone could guess.
    """
    if given is None:
        return None
    key = given.strip()
    if not key:
        raise ConfigError(
            f"{KEY_VARIABLE} is set, but empty. Unset it to ask for no key, or give it one. {_MAKE_ONE}"
        )
    if not set(key) <= set(string.ascii_letters + string.digits + string.punctuation):
        raise ConfigError(f"{KEY_VARIABLE} is ASCII without spaces, to fit into a header. {_MAKE_ONE}")
    if len(key) < _SHORTEST_KEY:
        raise ConfigError(
            f"{KEY_VARIABLE} has {len(key)} characters, which can be guessed: give it {_SHORTEST_KEY} or more. "
            f"{_MAKE_ONE}"
        )
    return key
