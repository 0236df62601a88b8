import uuid
from collections.abc import Iterator

import fsspec
import pytest


@pytest.fixture
def bucket() -> Iterator[str]:
    """A folder of a store that is not this machine's file system."""
    name = f"memory://{uuid.uuid4().hex}"
    yield name
    store = fsspec.filesystem("memory")
    if store.exists(name):
        store.rm(name, recursive=True)
