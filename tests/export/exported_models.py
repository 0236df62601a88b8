"""Small localizers that know everything, for what is tested on exported files."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from solobox.boxes import object_sides
from solobox.config.architecture import Architecture
from solobox.export.parity import synthetic_images
from solobox.images.reading import to_square
from solobox.model.localizer import Localizer, pooled
from solobox.uncertainty.conformal import Calibration, SizeCategory
from solobox.uncertainty.familiarity import Familiarity


def localizer_of(*, knows: bool = True, count: int = 60, **changes: Any) -> Localizer:
    """With random weights; with margins (from `count` made-up images), presence and familiarity, or without."""
    torch.manual_seed(0)
    architecture = Architecture(**({"size": 64, "width": 16, "bins": 8, "presence": knows} | changes))
    localizer = Localizer(
        architecture, pretrained="bundled" if architecture.backbone.endswith("lite0") else "none"
    )
    localizer.eval()
    if knows:
        rng = np.random.default_rng(0)
        truth = np.sort(rng.uniform(0, 1, (count, 4)), axis=1)[:, [0, 1, 2, 3]]
        boxes = truth + rng.normal(0, 0.05, truth.shape)
        localizer.calibration = Calibration.fit(truth, boxes, np.full_like(truth, 0.05))
        width = sum(localizer.backbone.channels)
        localizer.familiarity = Familiarity.fit(
            rng.normal(size=(40, width)), rng.normal(size=(20, width)) * 0.3
        )
        assert localizer.presence is not None
        localizer.presence.temperature.fill_(1.7)
    return localizer


def usual_localizer() -> Localizer:
    """What `exported_file` is made of: the synthetic images are neither all familiar to it nor all strange."""
    localizer = localizer_of()
    squares = np.stack([to_square(image, localizer.architecture.side) for image in synthetic_images()])
    with torch.inference_mode():
        features = pooled(localizer.maps(np.ascontiguousarray(squares.transpose(0, 3, 1, 2))))
    localizer.familiarity = Familiarity.fit(features[::2], features)
    assert localizer.calibration is not None
    side = [float(object_sides(each.box, each.size)) for each in localizer.predict(list(synthetic_images()))]
    bounds = [*np.quantile(side, [1 / 3, 2 / 3]).tolist(), np.inf]  # its boxes are of all categories
    two_sided, outer = localizer.calibration.two_sided, localizer.calibration.outer
    categories = tuple(
        SizeCategory(
            below,
            {level: each * value for level, value in two_sided.items()},
            {level: each * value for level, value in outer.items()},
        )
        for below, each in zip(bounds, (0.5, 1.0, 2.0), strict=True)
    )
    localizer.calibration = replace(localizer.calibration, categories=categories)
    return localizer
