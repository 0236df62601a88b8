from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from error_codes import has_code
from solobox.errors import ConfigError
from solobox.model import backbone
from solobox.model.backbone import Backbone


def test_a_hub_that_cannot_be_reached_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    create = backbone._create

    def without_the_hub(name: str, **options: Any) -> Any:
        assert not options.get("pretrained"), "the hub's library was asked, which tries again and again"
        return create(name, **options)

    monkeypatch.setattr(backbone, "_create", without_the_hub)
    with pytest.raises(ConfigError, check=has_code("backbone-unavailable")):
        Backbone("resnet18", pretrained="hub")


def test_weights_that_were_downloaded_need_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = timm.create_model("resnet18").state_dict()
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda _, name: str(tmp_path / name) if (tmp_path / name).exists() else None,
    )
    loaded = Backbone("resnet18", pretrained="hub").body.state_dict()
    assert torch.equal(loaded["conv1.weight"], state["conv1.weight"])
