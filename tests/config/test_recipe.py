import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.config.architecture import Architecture
from solobox.config.options import options_of
from solobox.config.recipe import OPTIONS, PARTS, Recipe, read_toml
from solobox.errors import ConfigError

NATIVE = {"size": "native", "vectorizer": "gap", "epochs": 0, "finetune_epochs": 2, "batch": 1}


def test_the_presets() -> None:
    assert Recipe.from_preset("quick") == Recipe.from_preset() == Recipe()
    assert Recipe.from_preset("quick").finetune_epochs == 0
    assert Recipe.from_preset("finetune").finetune_epochs > 0
    article = Recipe.from_preset("article")
    assert (article.architecture.backbone, article.architecture.head) == ("resnet50", "regression")
    assert (article.optimizer_config.optimizer, article.optimizer_config.staircase) == ("adam", True)


def test_options_reach_the_recipe_and_its_parts() -> None:
    recipe = Recipe.from_preset("finetune", {"size": 320, "lr": 1, "strides": [8, 16]}, batch=4)
    assert recipe.architecture.size == 320
    assert recipe.architecture.strides == (8, 16)
    assert recipe.optimizer_config.lr == 1.0
    assert isinstance(recipe.optimizer_config.lr, float)
    assert recipe.batch == 4
    assert recipe.finetune_epochs == Recipe.from_preset("finetune").finetune_epochs


def test_a_recipe_is_frozen_and_replacing_validates_again() -> None:
    recipe = Recipe()
    with pytest.raises(FrozenInstanceError):
        recipe.epochs = 9  # type: ignore[misc]
    other = replace(recipe, architecture=replace(recipe.architecture, presence=True))
    assert other.architecture.presence
    assert other != recipe
    with pytest.raises(ConfigError) as error:
        replace(recipe, batch=0)
    assert error.value.code == "out-of-range"


def test_a_size_is_a_number_or_native() -> None:
    assert Recipe.from_preset("quick", size=300, vectorizer="gap").architecture.side == 300
    native = Recipe.from_preset("quick", NATIVE).architecture
    assert native.size == "native"
    with pytest.raises(ConfigError) as error:
        _ = native.side
    assert error.value.code == "options-conflict"


@pytest.mark.parametrize(
    ("option", "nearest"),
    [
        ("epoch", "'epochs'"),
        ("backbon", "'backbone'"),
        ("weight-decay", "'weight_decay'"),
        ("learning_rate", "'lr'"),
    ],
)
def test_an_unknown_option_names_the_nearest(option: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=nearest) as error:
        Recipe.from_preset("quick", {option: 3})
    assert error.value.code == "unknown-option"


def test_an_unknown_argument_names_the_nearest_option_of_the_class() -> None:
    with pytest.raises(ConfigError, match="'width'") as error:
        Architecture(widht=3)  # type: ignore[call-arg]
    assert error.value.code == "unknown-option"


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'quick'") as error:
        Recipe.from_preset("quik")
    assert error.value.code == "unknown-recipe"


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("epochs", "3", "wrong-type"),
        ("epochs", 2.5, "wrong-type"),
        ("epochs", True, "wrong-type"),
        ("lr", True, "wrong-type"),
        ("lr", "0.1", "wrong-type"),
        ("staircase", 1, "wrong-type"),
        ("loss", 3, "wrong-type"),
        ("strides", [8, "16"], "wrong-type"),
        ("extra", 1024, "wrong-type"),
        ("loggers", "wandb", "wrong-type"),
        ("size", "nativ", "wrong-type"),
        ("size", 320.5, "wrong-type"),
        ("size", True, "wrong-type"),
        ("head", "boxes", "unknown-choice"),
        ("box", "xyxy", "unknown-choice"),
        ("crops", 0, "out-of-range"),
        ("ema", 1.0, "out-of-range"),
        ("ema", float("nan"), "out-of-range"),
        ("ram_gb", float("inf"), "out-of-range"),
        ("batch", 0, "out-of-range"),
        ("extra", [0], "out-of-range"),
        ("strides", [], "out-of-range"),
        ("strides", [16, 8], "out-of-range"),
        ("size", 16, "out-of-range"),
        ("folds", 1, "out-of-range"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_option(option: str, value: Any, code: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option}") as error:
        Recipe.from_preset("quick", {option: value})
    assert error.value.code == code
    assert "\n" not in str(error.value)
    assert "pydantic" not in str(error.value).lower()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"vectorizer": "gap", "head": "regression"}, "options-conflict"),
        ({"head": "regression", "loss": "mse"}, "options-conflict"),
        ({"box": "center_size"}, "options-conflict"),
        ({"size": 321}, "options-conflict"),
        ({"strides": [8, 32]}, "options-conflict"),
        ({"extra": [64]}, "options-conflict"),
        ({"val": 0.6, "test": 0.5}, "options-conflict"),
        ({"epochs": 0}, "options-conflict"),
        ({"pretrained": "none"}, "options-conflict"),
        ({"folds": 3, "finetune_epochs": 1}, "options-conflict"),
        ({"folds": 3, "devices": 2}, "options-conflict"),
        ({"size": "native"}, "options-conflict"),
        ({"size": "native", "vectorizer": "gap"}, "options-conflict"),
        (NATIVE | {"batch": 2}, "options-conflict"),
        ({"loss": "l7"}, "unknown-loss"),
        ({"loss": "kl +"}, "unknown-loss"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(ConfigError) as error:
        Recipe.from_preset("quick", options)
    assert error.value.code == code


@given(st.text(max_size=12))
def test_no_unknown_option_is_swallowed(name: str) -> None:
    if name not in OPTIONS:
        with pytest.raises(ConfigError) as error:
            Recipe.from_preset("quick", {name: 1})
        assert error.value.code == "unknown-option"


def test_no_option_belongs_to_two_classes() -> None:
    assert len(OPTIONS) == len(options_of(Recipe)) + sum(len(options_of(kind)) for kind in PARTS.values())


def test_a_recipe_comes_back_from_its_dict() -> None:
    recipe = Recipe.from_preset("finetune", strides=[16, 32], lr=0.5, optimizer="sgd", loggers=["wandb"])
    values = json.loads(json.dumps(recipe.to_dict()))
    assert set(values) == set(OPTIONS)
    assert Recipe.from_preset("quick", values) == recipe
    assert Recipe.from_preset("article", values) == recipe


def test_a_small_data_set_gets_more_crops_and_epochs() -> None:
    recipe = Recipe()
    assert recipe.crops_per_image(10**6) == recipe.crops
    assert recipe.crops < recipe.crops_per_image(100) < recipe.crops_per_image(1) == 16
    assert Recipe(crops=1).crops_per_image(1) == 1
    assert recipe.passes(10**6) == recipe.epochs < recipe.passes(320)


def test_only_many_features_may_be_rounded() -> None:
    recipe = Recipe()
    for images, rounded in ((72, False), (311, False), (987, True)):
        assert recipe.bf16_features(images * recipe.crops_per_image(images)) == rounded
    assert not Recipe(precision="32-true").bf16_features(10**9)


def test_options_in_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('recipe = "article"\nsize = 224\nstrides = [16]\nlr = 1\n')
    preset, options = read_toml(path)
    recipe = Recipe.from_preset(preset, options)
    assert (recipe.architecture.size, recipe.architecture.strides) == (224, (16,))
    assert recipe.loss == "mse"
    path.write_text("size = 224\n")
    assert read_toml(path) == ("quick", {"size": 224})
    assert read_toml(None) == ("quick", {})


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("size = ", "config-unreadable"), (None, "config-unreadable"), ("sise = 224", "unknown-option"),
        ("size = true", "wrong-type"), ("val = 2.0", "out-of-range"), ("recipe = 'quik'", "unknown-recipe"),
    ],
)  # fmt: skip
def test_a_faulty_toml_file_is_named(tmp_path: Path, content: str | None, code: str) -> None:
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"recipe\.toml") as error:
        read_toml(path)
    assert error.value.code == code
