"""A graph module as the bytes of an ONNX file that says what it is."""

import contextlib
import importlib.metadata
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import torch

from solobox.errors import ConfigError
from solobox.export.graph import SQUARES, Graph
from solobox.model.localizer import Localizer
from solobox.predict.onnx_model import FORMAT
from solobox.predict.onnx_runtimes import METADATA, PIXELS

OPSET = 20
"""Antialiased resizing came with 18."""


def as_onnx(graph: Graph, facts: Mapping[str, object]) -> onnx.ModelProto:
    """Trace the graph. facts: plain JSON that goes into the file, `Model.facts`.

    The tensor `SQUARES` keeps its name in the file, so that `parity` can compare it.

    Raises ConfigError where a part of it cannot be written as ONNX.
    """
    # Sizes that are no multiples of one another: nothing may be taken for the same symbol.
    example = torch.randint(0, 256, (2, graph.side + 13, graph.side + 38, 3), dtype=torch.uint8)
    symbols = {0: torch.export.Dim("N"), 1: torch.export.Dim("H"), 2: torch.export.Dim("W")}
    try:
        with warnings.catch_warnings(), quiet("torch.onnx", "onnxscript", "onnx_ir"):
            warnings.simplefilter(
                "ignore"
            )  # about versions of operators, of interest to the exporter's authors
            program = torch.onnx.export(
                graph.eval(), (example,), dynamo=True, dynamic_shapes=(symbols,), input_names=[PIXELS],
                output_names=[*graph.outputs, SQUARES], opset_version=OPSET, verbose=False,
            )  # fmt: skip
        if program is None:
            raise ConfigError("PyTorch gave no graph")
        model = program.model_proto
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ConfigError(
            f"this model cannot be written as ONNX: {str(error).strip().splitlines()[0]}. If the backbone is unusual, "
            "train with another one"
        ) from error
    del model.graph.output[len(graph.outputs) :]  # `SQUARES` stays in the graph, under its name
    _forget_origins(model)
    describe(model, graph, facts)
    onnx.checker.check_model(model)
    return model


def describe(model: onnx.ModelProto, graph: Graph, facts: Mapping[str, object]) -> None:
    """Write into the model what it is: all that the runtime needs beside the graph."""
    calibration = graph.localizer.calibration
    about = {
        "format": FORMAT,
        "side": graph.side,
        "levels": list(graph.levels),
        "margins": calibration.to_dict() if calibration else None,
        "facts": dict(facts),
    }
    model.producer_name, model.producer_version = "solobox", importlib.metadata.version("solobox")
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about, allow_nan=False)})


def facts_of(localizer: Localizer) -> dict[str, object]:
    """What an exported file says of the training behind it; no path of the trainer's machine is among it."""
    kept = ("versions", "counts", "best", "classes")
    facts = {key: localizer.metadata[key] for key in kept if key in localizer.metadata}
    facts["backbone"] = localizer.architecture.backbone
    facts["licence_of_weights"] = licence_of_weights(localizer)
    facts["exported_by"] = {
        name: importlib.metadata.version(name) for name in ("solobox", "torch", "onnx", "onnxruntime")
    }
    return facts


def licence_of_weights(localizer: Localizer) -> str:
    """The licence of the weights that the backbone began with, in words."""
    recipe = localizer.metadata.get("recipe")
    origin = recipe.get("pretrained") if isinstance(recipe, dict) else None
    name = localizer.architecture.backbone
    if origin == "bundled":
        return "Apache-2.0 (EfficientNet-Lite0 on ImageNet, by the TensorFlow authors)"
    if origin == "hub":
        import timm

        config: Any = timm.models.get_pretrained_cfg(name)
        stated = getattr(config, "license", None) or "not stated by timm: look it up before you pass this on"
        return f"{stated} (timm {name})"
    if origin == "none":
        return "the trainer's own: no weights of others were used"
    return f"that of the file that training began with ({origin or 'not known'})"


def _forget_origins(model: onnx.ModelProto) -> None:
    """Drop what PyTorch notes of where each node comes from: stack traces with paths of this machine."""
    del model.metadata_props[:]
    for graph in [model.graph, *model.functions]:
        nodes: Any = graph.node
        fields = [graph, *nodes, *getattr(graph, "initializer", []), *graph.value_info]
        if isinstance(graph, onnx.GraphProto):
            fields += [*graph.input, *graph.output]
        for part in fields:
            del part.metadata_props[:]
            part.doc_string = ""


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Let loggers tell of nothing below errors: their advice is for the authors of exporters."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
