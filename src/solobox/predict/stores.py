"""Files of any store by their URLs, through fsspec, of the extra ``ray``; everything local works without it."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from solobox.errors import ConfigError, DataError, reason
from solobox.images.reading import MAX_BYTES

Store: TypeAlias = Any
"""An ``fsspec.AbstractFileSystem``; fsspec has no types."""

_TRIES = 3
_PAUSE = 0.5
"""Seconds before the second try to download an image; the third waits twice as long."""


def is_url(item: str) -> bool:
    """Whether an input lies in a store, such as ``s3://bucket/image.jpg``. Local names may hold any character."""
    return "://" in item


def locate(url: str) -> tuple[Store, str]:
    """The store of a URL or local path, and the path in it.

    Raises ConfigError ``missing-package`` where fsspec or the store's package is not installed; DataError
    ``unknown-store``.
    """
    try:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem, make_path_posix
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{url}: URLs need fsspec: install Solobox with its [ray] extra", code="missing-package"
        ) from error
    if not is_url(url):  # fsspec would split a local path with :: in it
        return LocalFileSystem(), str(make_path_posix(url))
    try:
        # Without a cache of listings: a file that another machine has just written has to be visible.
        store, path = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise ConfigError(f"{url}: {error}", code="missing-package") from error
    except ValueError as error:
        raise DataError(f"{url}: {error}", code="unknown-store") from error
    return store, str(path)


def is_local(store: Store) -> bool:
    """Whether a store is this machine's file system."""
    return "file" in ((store.protocol,) if isinstance(store.protocol, str) else store.protocol)


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn any exception of a store or a disk into a DataError ``file-unreadable`` that names the file."""
    try:
        yield
    except (DataError, ConfigError, KeyboardInterrupt):
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file. Check the path.", code="file-unreadable") from error
    except Exception as error:
        raise DataError(f"{name}: cannot be read: {reason(error)}", code="file-unreadable") from error


@dataclass(frozen=True, slots=True)
class Unread:
    """Why an image could not be downloaded. unreachable: it may exist, and the network is at fault."""

    error: str
    unreachable: bool = False


def fetch(name: str) -> str | bytes | Unread:
    """The path of a local image, or the bytes of one in a store; `Unread` where there are none.

    Raises ConfigError if a package is missing.
    """
    if not is_url(name):
        return name
    try:
        store, path = locate(name)
    except DataError as error:
        return Unread(str(error))
    if is_local(store):
        return path
    for pause in (*(_PAUSE * 2**n for n in range(_TRIES - 1)), None):
        try:
            # One byte more than an image may have: a larger one is refused by its length.
            return bytes(store.cat_file(path, start=0, end=MAX_BYTES + 1))
        except FileNotFoundError:
            return Unread(f"{name}: there is no such file. Check the path.")
        except IsADirectoryError:
            return Unread(f"{name}: this is a folder, not an image. Give the images in it.")
        except Exception as error:  # noqa: BLE001 (each store has different exceptions)
            why = reason(error)
        if pause is not None:
            time.sleep(pause)
    return Unread(f"{name}: cannot be read ({why}). Check the path and permissions.", unreachable=True)
