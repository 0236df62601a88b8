from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solobox.cli.check import check


def test_it_says_which_images_training_keeps_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(tmp_path / name)
    Image.open(tmp_path / "a.png").save(tmp_path / "c.jpg", quality=60)
    data = tmp_path / "boxes.csv"
    data.write_text(
        "image,x1,y1,x2,y2\n" + "".join(f"{name},9,9,80,80\n" for name in ("a.png", "b.png", "c.jpg"))
    )
    assert check(data) == 0
    assert "2 images are 1 source with copies" in "".join(capsys.readouterr())
