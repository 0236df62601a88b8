import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.config.recipe import PARTS, Recipe, options_of
from solobox.errors import ConfigError


def test_the_presets() -> None:
    assert Recipe.named("quick") == Recipe()
    assert Recipe.named("quick").finetune_epochs == 0
    assert Recipe.named("finetune").finetune_epochs > 0


def test_changes_reach_the_recipe_and_the_architecture() -> None:
    recipe = Recipe.named("finetune", {"size": 320, "lr": 1, "strides": [8, 16]})
    assert recipe.architecture.size == 320
    assert recipe.architecture.strides == (8, 16)
    assert recipe.optimizer_config.lr == 1.0
    assert isinstance(recipe.optimizer_config.lr, float)
    assert recipe.finetune_epochs == Recipe.named("finetune").finetune_epochs


def test_a_size_is_a_number_or_native() -> None:
    assert Recipe.named("quick", {"size": 300, "vectorizer": "gap"}).architecture.size == 300
    alone = {"size": "native", "vectorizer": "gap", "epochs": 0, "finetune_epochs": 2, "batch": 1}
    assert Recipe.named("quick", alone).architecture.size == "native"
    with pytest.raises(ConfigError, match="size is int or 'native', not 'nativ'"):
        Recipe.named("quick", {"size": "nativ"})


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        Recipe.named("quick", {"epoch": 3})
    with pytest.raises(ConfigError, match="did you mean 'backbone'"):
        Recipe.named("quick", {"backbon": "resnet18"})
    with pytest.raises(ConfigError, match="no recipe 'quik'"):
        Recipe.named("quik")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "3"),
        ("epochs", 2.5),
        ("epochs", True),
        ("loss", 3),
        ("head", "boxes"),
        ("strides", [8, "16"]),
        ("extra", 1024),
        ("size", "nativ"),
        ("size", 320.5),
        ("size", True),
        ("box", "xyxy"),
    ],
)
def test_a_wrong_type_is_an_error_that_names_the_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        Recipe.named("quick", {key: value})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vectorizer": "gap", "head": "regression"}, "distribution head"),
        ({"loss": "l7"}, "not a loss"),
        ({"val": 0.6, "test": 0.5}, "leave nothing"),
        ({"epochs": 0}, "nothing would be trained"),
        ({"pretrained": "none"}, "learns nothing"),
        ({"crops": 0}, "crops must be from 1"),
        ({"ema": 1.0}, "ema must be"),
        ({"sigma": float("nan")}, "sigma must be"),
        ({"batch": 0}, "batch must be"),
        ({"size": "native", "vectorizer": "gap"}, "--epochs 0 --finetune-epochs N --batch 1"),
        ({"size": "native", "vectorizer": "gap", "epochs": 0, "finetune_epochs": 2}, "--batch 1"),
    ],
)
def test_a_senseless_recipe_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Recipe.named("quick", changes)


@given(st.text(max_size=12))
def test_no_unknown_key_is_swallowed(key: str) -> None:
    if not any(key in options_of(kind) for kind in (Recipe, *PARTS.values())):
        with pytest.raises(ConfigError, match="unknown setting"):
            Recipe.named("quick", {key: 1})


def test_every_knob_says_what_it_is_and_no_name_is_used_twice() -> None:
    homes = [options_of(kind) for kind in (Recipe, *PARTS.values())]
    assert all(option.help for home in homes for option in home.values())
    assert len({name for home in homes for name in home}) == sum(map(len, homes))


def test_a_recipe_comes_back_from_its_flat_form() -> None:
    recipe = Recipe.named(
        "finetune", {"strides": [16, 32], "lr": 0.5, "optimizer": "sgd", "loggers": ["wandb"]}
    )
    assert Recipe.named("quick", json.loads(json.dumps(recipe.flat()))) == recipe
