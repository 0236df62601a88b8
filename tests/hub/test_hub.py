"""Pushing to and loading from the Hugging Face Hub, by its real client, on a stand-in over loopback."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from exported_models import localizer_of, usual_localizer
from PIL import Image
from stand_in_hub import StandInHub, environment, serving, use_here

import solobox
from error_codes import has_code
from solobox import synthetic
from solobox.evaluation.metrics import evaluate_predictions
from solobox.hub import download, push
from solobox.hub.card import public_metadata
from solobox.hub.download import local_model

PRIVATE = {
    "recipe": {"seed": 0, "pretrained": "/home/ann/secret.pth"}, "counts": {"train": 90, "val": 20, "test": 30},
    "best": {"stage": "head", "epoch": 2, "val_iou": 0.81}, "classes": ["pl|ate"], "versions": {"torch": "2"},
    "sample_images": ["/home/ann/photos/1.jpg"], "unreadable": ["/home/ann/photos/2.jpg"], "data": "/home/ann/l.csv",
}  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    with serving(StandInHub()) as hub:
        use_here(hub.url, tmp_path / "cache", monkeypatch)
        yield hub


@pytest.fixture(scope="module")
def localizer() -> solobox.Localizer:
    localizer = usual_localizer()
    localizer.metadata = dict(PRIVATE)
    return localizer


@pytest.fixture
def quick_export(exported_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the same localizer, without tracing it again."""

    def export(_: solobox.Localizer, path: Path, **__: object) -> None:
        path.write_bytes(exported_file.read_bytes())

    monkeypatch.setattr(push, "export", export)


@pytest.fixture
def files(localizer: solobox.Localizer, exported_file: Path, tmp_path: Path) -> dict[str, bytes]:
    localizer.save(tmp_path / "run")
    written = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    return written | {"model.onnx": exported_file.read_bytes()}


@pytest.fixture
def image() -> np.ndarray:
    return synthetic.draw(3, (60, 40)).pixels


@pytest.mark.usefixtures("quick_export")
class TestPush:
    def test_what_is_pushed_is_loaded(
        self, hub: StandInHub, localizer: solobox.Localizer, image: np.ndarray
    ) -> None:
        pushed = localizer.push_to_hub("me/plates")
        files = hub.repositories["me/plates"].files
        assert sorted(files) == [
            ".gitattributes",
            "README.md",
            "config.json",
            "model.onnx",
            "model.safetensors",
        ]
        assert pushed.url == f"{hub.url}/me/plates"
        loaded = solobox.load(f"hf:me/plates@{pushed.commit}")
        assert isinstance(loaded, solobox.Localizer)
        expected = localizer.predict(image)
        np.testing.assert_allclose(loaded.predict(image).box, expected.box, atol=1e-3)
        np.testing.assert_allclose(loaded.predict(image).lower, expected.lower, atol=1e-3)

    def test_no_name_or_path_of_an_image_is_pushed(
        self, hub: StandInHub, localizer: solobox.Localizer
    ) -> None:
        localizer.push_to_hub("me/plates")
        for name, content in hub.repositories["me/plates"].files.items():
            assert b"/home/ann" not in content, name
        assert (
            json.loads(hub.repositories["me/plates"].files["config.json"])["recipe"]["pretrained"]
            == "secret.pth"
        )
        assert localizer.metadata == PRIVATE
        assert public_metadata({"recipe": {"pretrained": r"C:\ann\w.pth"}}) == {
            "recipe": {"pretrained": "w.pth"}
        }

    def test_the_card_says_what_was_measured_and_promised(
        self, hub: StandInHub, localizer: solobox.Localizer, tmp_path: Path
    ) -> None:
        dataset = synthetic.write(tmp_path / "data", 12, seed=1, size=(96, 64))
        predictions = [
            solobox.Prediction(
                str(path), box=box + 2, size=(96, 64), lower=box - 5, upper=box + 5, std=np.ones(4)
            )
            for path, box in zip(dataset.paths, dataset.boxes, strict=True)
        ]
        evaluation = evaluate_predictions(dataset, predictions, "test")
        localizer.push_to_hub("me/plates", evaluation=evaluation, license="mit")
        card = hub.repositories["me/plates"].files["README.md"].decode()
        _, head, text = card.split("---\n", 2)
        metadata = yaml.safe_load(head)
        assert (metadata["library_name"], metadata["pipeline_tag"], metadata["license"]) == (
            "solobox", "object-detection", "mit",
        )  # fmt: skip
        iou = evaluation.metrics.mean_iou
        (result,) = metadata["model-index"][0]["results"]
        assert result["dataset"]["split"] == "test"
        assert result["metrics"][0]["value"] == pytest.approx(iou)
        interval = evaluation.intervals["mean_iou"]
        assert f"| mean IoU | {iou:.3f} | {interval.lower:.3f} to {interval.upper:.3f} |" in text
        assert "| all four edges within the margins at 0.9 | 1.000 |" in text
        assert "calibrated on 60 images" in text
        assert "Whether some of them were used in training is not known." in text
        assert "| to train, with a box | 90 |" in text
        assert r"pl\|ate" in text

    def test_without_a_measurement_the_card_says_so(
        self, hub: StandInHub, localizer: solobox.Localizer
    ) -> None:
        localizer.push_to_hub("me/plates")
        card = hub.repositories["me/plates"].files["README.md"].decode()
        assert "Not measured on images that training did not use" in card
        assert "0.810" in card
        assert "model-index" not in card

    def test_an_exported_file_of_an_earlier_model_is_removed(
        self, hub: StandInHub, localizer: solobox.Localizer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        localizer.push_to_hub("me/plates")

        def cannot(*_: object, **__: object) -> None:
            raise solobox.ConfigError("of native size", code="size-native")

        monkeypatch.setattr(push, "export", cannot)
        assert localizer.push_to_hub("me/plates").not_exported == "of native size"
        assert "model.onnx" not in hub.repositories["me/plates"].files

    def test_a_file_that_differs_is_not_pushed(
        self, hub: StandInHub, localizer: solobox.Localizer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def differs(*_: object, **__: object) -> None:
            raise solobox.ConfigError("they differ", code="export-differs")

        monkeypatch.setattr(push, "export", differs)
        with pytest.raises(solobox.ConfigError, check=has_code("export-differs")):
            localizer.push_to_hub("me/plates")
        assert not hub.repositories

    def test_another_model_is_not_replaced(self, hub: StandInHub, localizer: solobox.Localizer) -> None:
        others = hub.repository(
            "me/bert", {"config.json": b"{}", "README.md": b"---\nlibrary_name: t\n---\n"}
        )
        with pytest.raises(solobox.ConfigError, check=has_code("hub-repository-foreign")):
            localizer.push_to_hub("me/bert")
        assert len(others.commits) == 1

    def test_without_the_right_to_write(self, hub: StandInHub, localizer: solobox.Localizer) -> None:
        hub.read_only = True
        with pytest.raises(solobox.ConfigError, check=has_code("hub-forbidden")):
            localizer.push_to_hub("me/plates")

    def test_a_revision_is_no_place_to_push_to(self, hub: StandInHub, localizer: solobox.Localizer) -> None:
        with pytest.raises(solobox.ConfigError, check=has_code("hub-name-invalid")):
            localizer.push_to_hub("me/plates@v1")
        assert not hub.requests


def test_the_file_is_really_exported(hub: StandInHub, tmp_path: Path, image: np.ndarray) -> None:
    localizer = localizer_of(knows=False, backbone="test_efficientnet")
    localizer.push_to_hub("me/small", private=True)
    assert hub.repositories["me/small"].private
    model = solobox.OnnxModel.load(local_model("hf:me/small", "onnx"))
    np.testing.assert_allclose(model.predict(image).box, localizer.predict(image).box, atol=0.05)


class TestDownload:
    def test_only_what_is_needed(
        self, hub: StandInHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.repository("me/plates", files | {"evil.pkl": b"x", "pytorch_model.bin": b"x"})
        assert local_model("hf:me/plates").is_dir()
        asked = {line.rpartition("/")[2] for line in hub.requests if "/resolve/" in line}
        assert asked == {"config.json", "model.safetensors"}
        hub.requests.clear()
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
        assert isinstance(solobox.load(Path("hf:me/plates")), solobox.OnnxModel)
        assert {line.rpartition("/")[2] for line in hub.requests if "/resolve/" in line} == {"model.onnx"}

    def test_revisions(self, hub: StandInHub, files: dict[str, bytes]) -> None:
        repository = hub.repository("me/plates", files)
        repository.refs["v1.0"] = first = repository.refs["main"]
        second = repository.commit(files | {"config.json": files["config.json"] + b" "})
        assert local_model("hf:me/plates@v1.0").name == first
        assert local_model("hf:me/plates").name == local_model(f"hf:me/plates@{second}").name == second

    def test_offline_uses_the_cache(
        self, hub: StandInHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from huggingface_hub import constants

        hub.repository("me/plates", files)
        folder = local_model("hf:me/plates", "folder")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        hub.requests.clear()
        assert local_model("hf:me/plates") == folder
        for name, kind in (("hf:me/plates", "onnx"), ("hf:me/plates@v2", "any"), ("hf:me/other", "any")):
            with pytest.raises(solobox.ConfigError, check=has_code("hub-offline")):
                local_model(name, kind)  # type: ignore[arg-type]
        assert not hub.requests

    @pytest.mark.parametrize(
        ("refuses", "code"),
        [
            ((403, "GatedRepo"), "hub-gated"), ((401, "GatedRepo"), "hub-gated"),
            ((401, "RepoNotFound"), "hub-not-found"), ((401, ""), "hub-forbidden"),
            ((403, ""), "hub-forbidden"), ((500, ""), "hub-failed"),
            ((404, "RevisionNotFound"), "hub-revision-missing"),
        ],
    )  # fmt: skip
    def test_what_the_hub_refuses(self, hub: StandInHub, refuses: tuple[int, str], code: str) -> None:
        hub.repository("me/plates", {}).refuses = refuses
        with pytest.raises(solobox.ConfigError, check=has_code(code)) as caught:
            solobox.load("hf:me/plates")
        assert str(caught.value).startswith("hf:me/plates")
        assert "\n" not in str(caught.value)

    def test_no_repository_and_no_hub(self, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        with pytest.raises(solobox.ConfigError, check=has_code("hub-not-found")):
            solobox.load("hf:me/none")
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(solobox.ConfigError, check=has_code("hub-unreachable")):
            solobox.load("hf:me/none")

    @pytest.mark.parametrize("kind", ["any", "folder", "onnx"])
    def test_a_repository_of_something_else(self, hub: StandInHub, kind: Any) -> None:
        hub.repository("me/bert", {"config.json": b"{}", "pytorch_model.bin": b"x"})
        with pytest.raises(solobox.ConfigError, check=has_code("hub-no-model")):
            local_model("hf:me/bert", kind)
        assert not [line for line in hub.requests if "/resolve/" in line]

    def test_a_file_without_end_is_not_downloaded(
        self, hub: StandInHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.repository("me/plates", files)
        monkeypatch.setattr(download, "_MAX_BYTES", 1000)
        with pytest.raises(solobox.ConfigError, check=has_code("hub-no-model")):
            local_model("hf:me/plates")
        assert not [line for line in hub.requests if "/resolve/" in line]

    def test_a_foreign_config_is_refused_as_any_damaged_model(
        self, hub: StandInHub, files: dict[str, bytes]
    ) -> None:
        hub.repository("me/bert", {"config.json": b"{}", "model.safetensors": files["model.safetensors"]})
        with pytest.raises(solobox.ConfigError, check=has_code("model-damaged")):
            solobox.load("hf:me/bert")

    @pytest.mark.parametrize(
        "name",
        [
            "hf:",
            "hf:plates",
            "hf://me/plates",
            "hf:me/../x",
            "hf:me/x@",
            "hf:me/x@../../y",
            "hf:a/b/c",
            "hf:me/x\n",
        ],
    )
    def test_names_that_are_none(self, hub: StandInHub, name: str) -> None:
        with pytest.raises(solobox.ConfigError, check=has_code("hub-name-invalid")):
            local_model(name)
        assert not hub.requests

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("solobox.hub.client.importlib.util.find_spec", lambda _: None)
        with pytest.raises(solobox.ConfigError, check=has_code("missing-package")):
            local_model("hf:me/plates")

    def test_paths_are_paths(self, tmp_path: Path) -> None:
        assert local_model(tmp_path) == tmp_path
        assert local_model("./hf:me/x") == Path("hf:me/x")


class TestCommands:
    """In processes that find the stand-in by the client's own variables."""

    def test_predict_and_push(self, files: dict[str, bytes], tmp_path: Path, image: np.ndarray) -> None:
        Image.fromarray(image).save(tmp_path / "a.png")
        with serving(StandInHub()) as hub:
            hub.repository("me/plates", {"model.onnx": files["model.onnx"]})
            variables = environment(hub, tmp_path / "cache")
            done = command(["predict", "hf:me/plates", str(tmp_path / "a.png")], variables)
            assert done.returncode == 0, done.stderr
            assert done.stdout.count("\n") == 2
            assert done.stderr.startswith("loading hf:me/plates from the Hugging Face Hub")
            refused = command(
                ["push", str(tmp_path / "run"), "me/none"], {**variables, "HF_TOKEN": "hf_wrong"}
            )
            assert refused.returncode == 2
            assert "error[hub-forbidden]" in refused.stderr
            assert "me/none" not in hub.repositories


def command(words: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "solobox", *words], env=os.environ | variables, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
