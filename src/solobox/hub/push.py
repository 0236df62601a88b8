"""Push a trained localizer to the Hugging Face Hub: the model, the exported file and a card, in one commit."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from solobox.errors import ConfigError
from solobox.evaluation.metrics import Evaluation
from solobox.export import export
from solobox.hub.card import CardFacts, model_card, public_metadata
from solobox.hub.client import LIBRARY, TIMEOUT, HubName, explained, hub_client
from solobox.hub.download import FOLDER, ONNX, OPTIONAL
from solobox.model.localizer import Localizer
from solobox.utils.progress import NullProgress, Progress

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
_NOT_EXPORTABLE = ("size-native", "not-exportable")


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was pushed.

    url: of the repository's page. commit: its id. files: their names. not_exported: why model.onnx is not among them,
    else empty.
    """

    url: str
    commit: str
    files: tuple[str, ...]
    not_exported: str = ""


def push(
    localizer: Localizer,
    repository: str,
    *,
    evaluation: Evaluation | None = None,
    private: bool = False,
    license: str | None = None,  # noqa: A002  (the hub's own word)
    progress: Progress | None = None,
) -> Pushed:
    """Push a localizer to ``owner/name`` on the hub, which is created where it does not exist.

    Pushed are config.json and model.safetensors, without the names, paths and fingerprints of the training images;
    model.onnx, after the comparison of `export`, unless the model cannot be exported; and README.md, the card, which
    replaces an earlier one. All in one commit.

    evaluation: of this localizer, from `evaluate`; without it the card says that nothing was measured. private: of a
    repository that is created. license: an identifier of the hub, default that of the pretrained weights.

    Raises ConfigError: ``hub-repository-foreign`` for a repository with another model, ``hub-name-invalid`` also for a
    revision, those of `local_model` and `export`. Nothing is pushed then.
    """
    name = HubName.parse(repository)
    if name.revision is not None:
        raise ConfigError(f"{name}: push to OWNER/NAME; its main branch is meant", code="hub-name-invalid")
    api, progress = hub_client(), progress or NullProgress()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, constants

    if constants.HF_HUB_OFFLINE:
        raise ConfigError("HF_HUB_OFFLINE is set: unset it to push", code="hub-offline")
    with tempfile.TemporaryDirectory(prefix="solobox-") as scratch:
        folder = Path(scratch)
        _present(api, name)  # what cannot be pushed is refused before the export
        shared = _without_private(localizer)
        shared.save(folder)
        not_exported = _export(localizer, folder, progress)
        facts = CardFacts(
            name.repository, evaluation, license, not not_exported, localizer.fingerprints is not None
        )
        (folder / CARD).write_text(model_card(shared, facts), encoding="utf-8")
        files = tuple(sorted(file.name for file in folder.iterdir()))
        with explained(name):
            url = api.create_repo(name.repository, private=private or None, exist_ok=True)
        stale = sorted({ONNX, OPTIONAL} & _present(api, name) - set(files))
        with explained(name):
            commit = api.create_commit(
                name.repository,
                [
                    *(CommitOperationAdd(file, str(folder / file)) for file in files),
                    # An exported file of an earlier model would be taken where there is no PyTorch.
                    *(CommitOperationDelete(file) for file in stale),
                ],
                commit_message="Push a model of Solobox",
            )
    return Pushed(str(url), str(commit.oid), files, not_exported)


def _without_private(localizer: Localizer) -> Localizer:
    """The same localizer without names of images; fingerprints tell whether one was in the training data."""
    shared = copy.copy(localizer)
    shared.metadata, shared.fingerprints = public_metadata(localizer.metadata), None
    return shared


def _export(localizer: Localizer, folder: Path, progress: Progress) -> str:
    """Write the exported file into `folder`. Returns why there is none, else nothing."""
    try:
        export(localizer, folder / ONNX, progress=progress)
    except ConfigError as error:
        if error.code not in _NOT_EXPORTABLE:
            raise
        return str(error)
    return ""


def _present(api: "HfApi", name: HubName) -> set[str]:
    """The files of the repository; none where it does not exist. Raises ConfigError ``hub-repository-foreign``."""
    try:
        with explained(name):
            info = api.model_info(name.repository, timeout=TIMEOUT)
    except ConfigError as error:
        if error.code == "hub-not-found":  # or private and of others: then creating it says so
            return set()
        raise
    files = {file.rfilename for file in info.siblings or ()}
    library = info.card_data.get("library_name") if info.card_data is not None else None
    if library != LIBRARY and files & {*FOLDER, ONNX, CARD}:
        raise ConfigError(
            f"{name} exists and its {min(files & {*FOLDER, ONNX, CARD})} is not of Solobox: choose another name",
            code="hub-repository-foreign",
        )
    return files
