"""Model folders and ONNX files made by an attacker: each is refused with a code, without much time or memory."""

import copy
import io
import json
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exported_models import localizer_of
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file

from solobox.errors import SoloboxError
from solobox.model.localizer import Localizer
from solobox.predict.onnx_model import METADATA, OnnxModel

HOSTILE: dict[str, Any] = {
    "missing": KeyError, "text": "x" * 300, "huge": 10**9, "digits": 10**400, "negative": -7, "fraction": 0.5,
    "true": True, "null": None, "list": [[[]]], "object": {"a": {"b": [1, {"c": None}]}}, "nan": float("nan"),
    "infinity": float("inf"),
}  # fmt: skip
"""What each value is replaced by; KeyError: nothing."""

REFUSED = {
    "model-damaged", "model-missing", "model-outdated", "model-foreign", "wrong-type", "out-of-range",
    "unknown-choice", "unknown-option", "unknown-backbone", "unknown-stride", "options-conflict",
}  # fmt: skip

ALLOWED_MEMORY = 1 << 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    localizer = localizer_of(backbone="test_efficientnet")  # small: it is made some hundred times
    localizer.metadata = {
        "recipe": {"seed": 0, "pretrained": "bundled"},
        "history": [{"stage": "head", "epoch": 1, "train_loss": 1.0, "val_iou": None}],
        "best": {"stage": "head", "epoch": 1, "val_iou": None},
        "counts": {"train": 3}, "unreadable": [], "data": "a.csv", "sample_images": [], "classes": ["a"],
        "seconds": {"head": 1.0}, "versions": {"torch": "2"},
    }  # fmt: skip
    localizer.save(folder)
    return folder


@pytest.fixture
def file(exported_file: Path) -> Path:
    return exported_file


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Anything that takes more address space than `ALLOWED_MEMORY` beyond what is in use now fails."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    # Threads of the libraries reserve address space that they do not use.
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 4 * ALLOWED_MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def paths_in(values: object, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value; of a long table and of a list only the first."""
    if isinstance(values, dict):
        items: list[tuple[Any, Any]] = list(values.items())[: None if len(values) < 20 else 1]
    else:
        items = list(enumerate(values))[:1] if isinstance(values, list) else []
    for key, value in items:
        yield (*prefix, key)
        yield from paths_in(value, (*prefix, key))


def replaced(values: Any, path: tuple[Any, ...], by: Any) -> Any:
    values = copy.deepcopy(values)
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    if by is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = by
    return values


def refusal(load: Callable[[], object]) -> str:
    """The code that a model is refused with, or the empty string; any other exception is the test's failure."""
    before, length = peak(), 0
    try:
        load()
        code = ""
    except SoloboxError as error:
        code, length = error.code, len(str(error))
    assert length < 2000
    assert peak() - before < ALLOWED_MEMORY
    return code


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def crafted(folder: Path, target: Path, config: Any = None) -> Path:
    for name in ("config.json", "model.safetensors"):
        (target / name).unlink(missing_ok=True)
    (target / "model.safetensors").symlink_to(folder / "model.safetensors")
    text = (folder / "config.json").read_text() if config is None else config
    (target / "config.json").write_text(text if isinstance(text, str) else json.dumps(text))
    return target


ARCHITECTURE = (
    "backbone",
    "strides",
    "size",
    "extra",
    "vectorizer",
    "head",
    "box",
    "width",
    "bins",
    "presence",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_value_of_a_config_makes_more_than_a_refusal(folder: Path, tmp_path: Path, hostile: str) -> None:
    values = json.loads((folder / "config.json").read_text())
    accepted = []
    for path in paths_in(values):
        config = replaced(values, path, HOSTILE[hostile])
        code = refusal(lambda config=config: Localizer.load(crafted(folder, tmp_path, config)))  # type: ignore[misc]
        assert code in {"", *REFUSED}, (path, code)
        if not code:
            accepted.append(path)
    # Some values do no harm, such as another seed, and a name that is missing takes its default.
    if hostile != "missing":
        assert {path for path in accepted if path[0] in ("format", "architecture")} <= {
            ("architecture", "presence")
        }
    if hostile in ("nan", "infinity", "list", "object"):
        assert accepted in ([], [("recipe",)])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"width": 16_384}, "model-damaged"),
        ({"bins": 1024}, "model-damaged"),
        ({"size": 1536}, ""),  # the same tensors: an image takes longer, nothing else
        ({"size": 1_000_000 * 32}, "out-of-range"),
        ({"backbone": "vit_giant_patch14_224"}, "unknown-stride"),
        ({"backbone": "convnext_xxlarge", "strides": [8, 16, 32]}, "model-damaged"),
        ({"backbone": "../../etc/passwd"}, "unknown-backbone"),
        ({"backbone": "*a" * 90}, "unknown-backbone"),
        ({"backbone": "x" * 10**6}, "out-of-range"),
        ({"vectorizer": "flatten", "size": 1536}, "model-damaged"),
        ({"vectorizer": "gap", "extra": [16_384] * 16}, "model-damaged"),
        ({"strides": list(range(1, 1000))}, "out-of-range"),
    ],
)
def test_an_architecture_that_the_file_does_not_hold(
    folder: Path, tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    values = json.loads((folder / "config.json").read_text())
    values["architecture"] |= changes
    assert refusal(lambda: Localizer.load(crafted(folder, tmp_path, values))) == code


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '"x"', "{", "[" * 100_000, '{"a":' * 50_000, '{"format": ' + "9" * 5000 + "}",
     '{"format": true}', '{"format": 1}', '{"format": 1, "architecture": []}', '{"format": 1e999}',
     "\ud800".encode("utf-8", "surrogatepass"), b"\xff\xfe{}", " " * (17 << 20)],
    ids=range(15),
)  # fmt: skip
def test_a_config_that_is_no_config(folder: Path, tmp_path: Path, text: str | bytes) -> None:
    crafted(folder, tmp_path)
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refusal(lambda: Localizer.load(tmp_path)) in REFUSED


def bytes_of(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return write


def with_tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tensors = load_file(path)
        value = change(tensors.pop(next(key for key in tensors if name in key)))
        if value is not None:
            tensors[next(key for key in load_file(path) if name in key)] = value.contiguous()
        save_file(tensors, path)

    return write


def header(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        values = json.loads(content[8 : 8 + length])
        change(values)
        text = json.dumps(values).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

    return write


def first(values: dict[str, Any]) -> dict[str, Any]:
    one: dict[str, Any] = values[next(key for key in values if key != "__metadata__")]
    return one


WEIGHTS: dict[str, Callable[[Path], None]] = {
    "empty": bytes_of(lambda content: b""),
    "cut": bytes_of(lambda content: content[:-1000]),
    "cut in the header": bytes_of(lambda content: content[:100]),
    "longer": bytes_of(lambda content: content + b"0" * 1000),
    "a header of exabytes": bytes_of(lambda content: b"\xff" * 8 + content),
    "a header of 90 MB": bytes_of(lambda content: (90 << 20).to_bytes(8, "little") + b" " * (90 << 20)),
    "nested": bytes_of(lambda content: (99_999).to_bytes(8, "little") + b"[" * 99_999),
    "nan": with_tensor("attention.weight", lambda value: torch.full_like(value, torch.nan)),
    "one infinity": with_tensor("head.layers.4.bias", lambda value: value.index_fill(2, torch.tensor([3]), torch.inf)),
    "too large to compute with": with_tensor("head.layers.4.weight", lambda value: torch.full_like(value, 3e38)),
    "a negative variance": with_tensor("running_var", lambda value: torch.full_like(value, -1.0)),
    "another shape": with_tensor("attention.weight", lambda value: value[:2]),
    "another rank": with_tensor("attention.weight", lambda value: value[None]),
    "float64": with_tensor("attention.weight", lambda value: value.double()),
    "integers": with_tensor("attention.weight", lambda value: value.to(torch.int32)),
    "one less": with_tensor("attention.weight", lambda value: None),
    "a temperature of zero": with_tensor("temperature", torch.zeros_like),
    "a familiarity without variance": with_tensor("noise_variance", torch.zeros_like),
    "a familiarity of other features": with_tensor("familiarity.mean", lambda value: value[:5]),
    "a familiarity of integers": with_tensor("familiarity.mean", lambda value: value.to(torch.int32)[None]),
    "distances out of order": with_tensor("familiarity.distances", lambda value: value.flip(0)),
    "a familiarity in part": with_tensor("familiarity.components", lambda value: None),
    "a huge shape": header(lambda values: first(values).update(shape=[2**40, 2**20])),
    "a negative shape": header(lambda values: first(values).update(shape=[-1])),
    "an unknown type": header(lambda values: first(values).update(dtype="F1")),
    "shared bytes": header(lambda values: values["head.layers.4.bias"].update(data_offsets=[0, 128])),
    "another name": header(lambda values: values.update(x=values.pop(list(values)[1]))),
}  # fmt: skip


def test_the_model_as_it_is_has_nothing_to_refuse(folder: Path) -> None:
    assert refusal(lambda: Localizer.load(folder)) == ""


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_file_of_weights_that_is_damaged(folder: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    WEIGHTS[kind](tmp_path / "model.safetensors")
    assert refusal(lambda: Localizer.load(tmp_path)) == "model-damaged"


def npz(**arrays: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array: np.ndarray[Any, Any], *, shape: str = "") -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    content = stream.getvalue()
    old = str(array.shape).encode()
    return content.replace(old + b", }", shape.encode() + b", }") if shape else content


HASHES = np.arange(5, dtype=np.int64)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", npz(), npz(train=npy(HASHES), val=b"x"), npz(train=npy(np.zeros(10**7, np.int64)), val=npy(HASHES)),
     npz(train=npy(HASHES, shape="(99999999999999,)"), val=npy(HASHES)),
     npz(train=npy(HASHES.astype(str)), val=npy(HASHES))],
    ids=range(7),
)  # fmt: skip
def test_fingerprints_that_are_damaged(folder: Path, tmp_path: Path, content: bytes) -> None:
    crafted(folder, tmp_path)
    (tmp_path / "fingerprints.npz").write_bytes(content)
    assert refusal(lambda: Localizer.load(tmp_path)) == "fingerprints-damaged"


# ONNX -----------------------------------------------------------------------------------------------


def with_metadata(target: Path, values: object) -> Path:
    model = constant(np.zeros((1, 4), np.float32))
    helper.set_model_props(model, {METADATA: values if isinstance(values, str) else json.dumps(values)})
    onnx.save(model, target)
    return target


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_metadata_make_more_than_a_refusal(tmp_path: Path, file: Path, hostile: str) -> None:
    values = json.loads(onnx.load(file).metadata_props[0].value)
    accepted = []
    for path in paths_in(values):
        changed = replaced(values, path, HOSTILE[hostile])
        target = with_metadata(tmp_path / "model.onnx", changed)
        code = refusal(lambda target=target: OnnxModel.load(target))  # type: ignore[misc]
        assert code in {"", *REFUSED}, (path, code)
        if not code:
            accepted.append(path)
    assert ("format",) not in accepted
    assert ("side",) not in accepted
    assert bool(accepted) == (hostile not in ("nan", "infinity"))


@pytest.mark.parametrize(
    "text",
    ["", "[", "[" * 100_000, '{"format":1,"side":' + "9" * 5000 + "}", '{"format":true}', " " * (17 << 20)],
    ids=range(6),
)  # fmt: skip
def test_metadata_that_are_no_metadata(tmp_path: Path, text: str) -> None:
    target = with_metadata(tmp_path / "model.onnx", text)
    assert refusal(lambda: OnnxModel.load(target)) == "model-damaged"


def graph(*nodes: onnx.NodeProto, boxes: Any = ("N", 4), **initializers: Any) -> onnx.ModelProto:
    """A model of ours by its metadata, whose graph is made of these nodes."""
    arrays = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        for name, value in initializers.items()
    ]
    model = helper.make_model(
        helper.make_graph(
            list(nodes),
            "g",
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", "H", "W", 3])],
            [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, boxes)],
            arrays,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    helper.set_model_props(
        model, {METADATA: json.dumps({"format": 1, "side": 64, "margins": None, "metadata": {}})}
    )
    return model


def constant(array: Any) -> onnx.ModelProto:
    return graph(helper.make_node("Identity", ["value"], ["boxes"]), boxes=None, value=array)


def external(location: str) -> onnx.ModelProto:
    tensor = TensorProto(name="value", data_type=1, dims=[1, 4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return constant(tensor)


def filled(*shape: int) -> onnx.ModelProto:
    return graph(
        helper.make_node("ConstantOfShape", ["shape"], ["all"]),
        helper.make_node("ReduceMax", ["all"], ["one"]),
        helper.make_node("Expand", ["one", "four"], ["boxes"]),
        shape=np.array(shape, np.int64),
        four=np.array([1, 4], np.int64),
    )


def outer_product(side: int) -> onnx.ModelProto:
    return graph(
        helper.make_node("MatMul", ["column", "row"], ["all"]),
        helper.make_node("ReduceMax", ["all"], ["one"]),
        helper.make_node("Expand", ["one", "four"], ["boxes"]),
        column=np.zeros((side, 1), np.float32),
        row=np.zeros((1, side), np.float32),
        four=np.array([1, 4], np.int64),
    )


def endless() -> onnx.ModelProto:
    info, number = helper.make_tensor_value_info, TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["again"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "body",
        [info("step", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("before", number, [1, 4])],
        [info("again", TensorProto.BOOL, []), info("after", number, [1, 4])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["many", "", "value"], ["boxes"], body=body)
    return graph(loop, many=np.array(2**62, np.int64), value=np.zeros((1, 4), np.float32))


def doubled() -> onnx.ModelProto:
    """Functions of functions: 2**40 nodes, if they are written out."""
    model = constant(np.zeros((1, 4), np.float32))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    model.opset_import.append(imports[1])
    for number in range(40):
        kind, domain = (f"F{number - 1}", "f") if number else ("Identity", "")
        nodes = [
            helper.make_node(kind, ["x"], ["y"], domain=domain),
            helper.make_node(kind, ["y"], ["z"], domain=domain),
        ]
        model.functions.append(helper.make_function("f", f"F{number}", ["x"], ["z"], nodes, imports))
    model.graph.node[0].op_type, model.graph.node[0].domain = "F39", "f"
    return model


def sparse() -> onnx.ModelProto:
    model = graph(helper.make_node("Identity", ["value"], ["boxes"]))
    values = numpy_helper.from_array(np.ones(1, np.float32), "value")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**20, 2**20]))
    return model


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    "five boxes": lambda: constant(np.zeros((5, 4), np.float32)),
    "no boxes": lambda: constant(np.zeros((0, 4), np.float32)),
    "five numbers": lambda: constant(np.zeros((1, 5), np.float32)),
    "one number": lambda: constant(np.float32(0)),
    "nan": lambda: constant(np.full((1, 4), np.nan, np.float32)),
    "infinity": lambda: constant(np.full((1, 4), np.inf, np.float32)),
    "external": lambda: external("weights.bin"),
    "passwords": lambda: external("/etc/passwd"),
    "above": lambda: external("../../../../etc/passwd"),
    "40 GB": lambda: filled(100_000, 100_000),
    "4 GB": lambda: filled(1 << 30),
    "a product of 40 GB": lambda: outer_product(100_000),
    "dims without data": lambda: constant(TensorProto(name="value", data_type=1, dims=[10**6, 10**6])),
    "negative dims": lambda: constant(TensorProto(name="value", data_type=1, dims=[-1, 4])),
    "sparse": sparse,
    "endless": endless,
    "functions": doubled,
    "an unknown operator": lambda: graph(helper.make_node("Unknown", ["pixels"], ["boxes"])),
    "many nodes": lambda: graph(
        *[helper.make_node("Identity", ["pixels"], [f"n{n}"]) for n in range(60_000)]
    ),
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_that_is_no_model(tmp_path: Path, little_memory: None, kind: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(GRAPHS[kind]().SerializeToString())
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    assert refusal(lambda: OnnxModel.load(path)) == "model-damaged"


def test_a_graph_that_is_a_model_for_one_image_only(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(constant(np.array([[-1e9, 7, 3e38, 20]], np.float32)).SerializeToString())
    model = OnnxModel.load(path)
    image = np.zeros((64, 64, 3), np.uint8)
    assert tuple(model.predict(image).box) == (0, 7, 64, 20)
    assert refusal(lambda: model.predict([image, image])) == "model-damaged"


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_other_bytes(file: Path, tmp_path: Path, seed: int) -> None:
    """It is refused, or a model: changed weights are weights."""
    rng = np.random.default_rng(seed)
    content = bytearray(file.read_bytes())
    start = 0 if seed % 2 else len(content) - 20_000  # where structure is denser than weights
    for at in rng.integers(start, start + 20_000, 4):
        content[at] = rng.integers(256)
    (tmp_path / "model.onnx").write_bytes(content)
    assert refusal(lambda: OnnxModel.load(tmp_path / "model.onnx")) in {"", *REFUSED}
