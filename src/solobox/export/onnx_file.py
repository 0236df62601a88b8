"""An export graph as an ONNX model with metadata, and its configuration for NVIDIA's Triton Inference Server."""

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
from solobox.export.graph import ExportGraph
from solobox.model.backbone import BUNDLED
from solobox.model.localizer import Localizer
from solobox.predict.onnx_model import FORMAT, METADATA, PIXELS

OPSET = 20
"""Antialiased resizing needs 18."""

_TRITON_PLATFORM = "onnxruntime_onnx"
_TRITON_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
}
_TRITON_MAX_BATCH = 32


def to_onnx(graph: ExportGraph, metadata: Mapping[str, object]) -> onnx.ModelProto:
    """Trace the graph. metadata: plain JSON for the file, see `training_metadata`.

    The tensors `ExportGraph.inner` keep their names in the file, so that `parity` can compare them.

    Raises ConfigError, ``not-exportable``, where a part of the model cannot be written as ONNX.
    """
    # No size is a multiple of another, so that the tracer does not take two for the same symbol.
    example = torch.randint(0, 256, (2, graph.side + 13, graph.side + 38, 3), dtype=torch.uint8)
    symbols = {0: torch.export.Dim("N"), 1: torch.export.Dim("H"), 2: torch.export.Dim("W")}
    try:
        with warnings.catch_warnings(), quiet_loggers("torch.onnx", "onnxscript", "onnx_ir"):
            warnings.simplefilter("ignore")  # about versions of operators, for the authors of the exporter
            program = torch.onnx.export(
                graph.eval(), (example,), dynamo=True, dynamic_shapes=(symbols,), input_names=[PIXELS],
                output_names=[*graph.outputs, *graph.inner], opset_version=OPSET, verbose=False,
            )  # fmt: skip
        if program is None:
            raise ConfigError("PyTorch gave no graph", code="not-exportable")
        model = program.model_proto
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ConfigError(
            f"this model cannot be written as ONNX: {str(error).strip().splitlines()[0]}. If the backbone is unusual, "
            "train with another one",
            code="not-exportable",
        ) from error
    del model.graph.output[len(graph.outputs) :]  # the inner ones stay in the graph, under their names
    _remove_origins(model)
    set_metadata(model, graph, metadata)
    onnx.checker.check_model(model)
    return model


def set_metadata(model: onnx.ModelProto, graph: ExportGraph, metadata: Mapping[str, object]) -> None:
    """Store in the model all that `OnnxModel` needs beside the graph."""
    calibration = graph.localizer.calibration
    content = {
        "format": FORMAT,
        "side": graph.side,
        "levels": list(graph.levels),
        "margins": calibration.to_dict() if calibration else None,
        "n_reference": graph.localizer.n_reference,
        "metadata": dict(metadata),
    }
    model.producer_name, model.producer_version = "solobox", importlib.metadata.version("solobox")
    onnx.helper.set_model_props(model, {METADATA: json.dumps(content, allow_nan=False)})


def training_metadata(localizer: Localizer) -> dict[str, object]:
    """What an exported file says about the training; without paths of the machine that trained it."""
    keys = ("versions", "counts", "best", "classes")
    metadata = {key: localizer.metadata[key] for key in keys if key in localizer.metadata}
    metadata["backbone"] = localizer.architecture.backbone
    metadata["weights_license"] = weights_license(localizer)
    metadata["exported_by"] = {
        name: importlib.metadata.version(name) for name in ("solobox", "torch", "onnx", "onnxruntime")
    }
    return metadata


def weights_license(localizer: Localizer) -> str:
    """The licence of the pretrained weights of the backbone, in words."""
    recipe = localizer.metadata.get("recipe")
    origin = recipe.get("pretrained") if isinstance(recipe, dict) else None
    name = localizer.architecture.backbone
    if origin == "bundled" and name in BUNDLED:
        return f"Apache-2.0 ({BUNDLED[name]} on ImageNet, by the TensorFlow authors)"
    if origin == "hub":
        import timm

        config: Any = timm.models.get_pretrained_cfg(name)
        stated = (
            getattr(config, "license", None)
            or "not stated by timm: look it up before you distribute the model"
        )
        return f"{stated} (timm {name})"
    if origin == "none":
        return "your own: trained without pretrained weights"
    return f"that of the pretrained weights ({origin or 'unknown'})"


def triton_config(model: onnx.ModelProto, name: str) -> str:
    """The text of ``config.pbtxt``: Triton's `ModelConfig` message, with dynamic batching.

    Triton batches requests for images of one size. It adds the batch dimension itself, so that no shape here has it.
    """
    graph = model.graph
    inputs = [_triton_tensor(graph.input[0], PIXELS)]
    outputs = [_triton_tensor(output, output.name) for output in graph.output]
    return "\n".join(
        [
            f'name: "{name}"',
            f'platform: "{_TRITON_PLATFORM}"',
            f"max_batch_size: {_TRITON_MAX_BATCH}",
            *(f"input {{ {tensor} }}" for tensor in inputs),
            *(f"output {{ {tensor} }}" for tensor in outputs),
            "dynamic_batching { max_queue_delay_microseconds: 1000 }",
            "",
        ]
    )


def _triton_tensor(value: onnx.ValueInfoProto, name: str) -> str:
    kind = value.type.tensor_type
    sizes = [str(d.dim_value) if d.HasField("dim_value") else "-1" for d in kind.shape.dim][1:]
    if not sizes:  # one number for each image: Triton has no empty shapes
        return (
            f'name: "{name}" data_type: {_TRITON_TYPES[kind.elem_type]} dims: [ 1 ] reshape {{ shape: [ ] }}'
        )
    return f'name: "{name}" data_type: {_TRITON_TYPES[kind.elem_type]} dims: [ {", ".join(sizes)} ]'


def _remove_origins(model: onnx.ModelProto) -> None:
    """Remove PyTorch's notes on where each node comes from: stack traces with paths of this machine."""
    del model.metadata_props[:]
    for graph in [model.graph, *model.functions]:
        nodes: Any = graph.node
        fields = [graph, *nodes, *getattr(graph, "initializer", []), *graph.value_info]
        if isinstance(graph, onnx.GraphProto):
            fields += [*graph.input, *graph.output]
        for each in fields:
            del each.metadata_props[:]
            each.doc_string = ""


@contextlib.contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Silence loggers below errors: their advice is for the authors of exporters."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
