"""What pushing and downloading share: names of models on the hub, its client, and errors for people."""

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from solobox.errors import ConfigError, reason

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PREFIX = "hf:"
LIBRARY = "solobox"
"""The card's `library_name`."""

TIMEOUT = 10.0
"""Seconds that the hub may take to say what a repository holds."""

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(rf"({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,254}}))?")


@dataclass(frozen=True, slots=True)
class HubName:
    """A model on the hub. repository: ``owner/name``. revision: a branch, tag or commit, None for the newest."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """``owner/name`` or ``owner/name@revision``, with or without ``hf:`` before it.

        Raises ConfigError ``hub-name-invalid``.
        """
        match = _NAME.fullmatch(text.removeprefix(PREFIX))
        if match is None or ".." in text or "--" in match[1]:
            raise ConfigError(
                f"{text[:200]!r} is no name of a model on the Hugging Face Hub: write {PREFIX}OWNER/NAME, or "
                f"{PREFIX}OWNER/NAME@REVISION",
                code="hub-name-invalid",
            )
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def hub_client() -> "HfApi":
    """The hub's client, which finds the address, the token and the cache as its own documentation says.

    Raises ConfigError ``missing-package``.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ConfigError(
            "the Hugging Face Hub needs the package huggingface_hub: install Solobox with its [hub] extra",
            code="missing-package",
        )
    from huggingface_hub import HfApi

    return HfApi(library_name=LIBRARY)


@contextmanager
def explained(name: HubName) -> Iterator[None]:
    """Turn what the hub's client raises into a ConfigError with a code, see `docs/howto/hub.md`."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise ConfigError(
            f"{name} is gated: ask for access on its page, and sign in with `hf auth login` or HF_TOKEN",
            code="hub-gated",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ConfigError(
            f"{name}: the repository has no such revision; its page lists branches, tags and commits",
            code="hub-revision-missing",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ConfigError(
            f"{name}: there is no such repository, or it is private: check the name, and sign in with "
            "`hf auth login` or HF_TOKEN",
            code="hub-not-found",
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise ConfigError(
                f"{name}: the hub refuses this account or token: sign in as someone who may, with `hf auth login`; to "
                "push, the token needs the right to write",
                code="hub-forbidden",
            ) from error
        raise ConfigError(
            f"{name}: the hub answers with an error ({_first_line(error)}): try again later",
            code="hub-failed",
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise unreachable(name, error) from error
    except ConfigError:
        raise
    except Exception as error:  # the client's HTTP library, and what it raises, differ by its version
        raise unreachable(name, error) from error


def unreachable(name: HubName, error: BaseException) -> ConfigError:
    """The error where there is no connection to the hub."""
    return ConfigError(
        f"{name}: the hub cannot be reached ({_first_line(error)}): check the network; HF_HUB_OFFLINE=1 uses what was "
        "downloaded before",
        code="hub-unreachable",
    )


def _first_line(error: BaseException) -> str:
    lines = reason(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
