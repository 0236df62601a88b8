from pathlib import Path

import pytest

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures beside the project."""
    if not REAL.is_dir():
        pytest.skip(f"the real pictures are not here: {REAL} does not exist")
    return REAL
