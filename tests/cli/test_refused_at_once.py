"""What is wrong by itself is refused before the data, which would take time to read, are looked at."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from error_codes import has_code
from solobox.cli.audit import audit
from solobox.cli.check import check
from solobox.cli.curve import curve
from solobox.cli.predict import predict
from solobox.cli.train import Settings, train
from solobox.errors import SoloboxError

NOTHING = Path("no-such-data.csv")
CUDA = Settings(accelerator="cuda")

CALLS: dict[str, tuple[str, Callable[[], object]]] = {
    "margins in percent": ("out-of-range", lambda: predict(Path("no-model"), ["no-image.jpg"], margins=90)),
    "a corrected copy that is no CSV": ("not-csv", lambda: check(NOTHING, fix=Path("copy.txt"))),
    "two repetitions": ("out-of-range", lambda: curve(NOTHING, repetitions=2)),
    "training on no GPU": ("no-accelerator", lambda: train(NOTHING, output=Path("run"), settings=CUDA)),
    "an audit on no GPU": ("no-accelerator", lambda: audit(NOTHING, settings=CUDA)),
    "a curve on no GPU": ("no-accelerator", lambda: curve(NOTHING, settings=CUDA)),
}


@pytest.mark.parametrize("kind", CALLS)
def test_it_is_refused_before_the_data_are_read(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    code, call = CALLS[kind]
    with pytest.raises(SoloboxError, check=has_code(code)):
        call()
    assert list(tmp_path.iterdir()) == []
