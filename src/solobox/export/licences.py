"""The texts of the licences of what an exported folder holds."""

from importlib.metadata import distribution
from importlib.resources import files

from solobox.export.onnx_file import weights_license
from solobox.model.localizer import Localizer

_RULE = "\n\n" + 100 * "-" + "\n\n"


def license_text(localizer: Localizer, *, web: bool = False) -> str:
    """What is in the folder and under which licences, then their texts. web: it holds a page and its runtime too."""
    weights = weights_license(localizer)
    trained = (
        "model.onnx was trained by whoever gives it to you, with Solobox (Apache-2.0). The licence of the pretrained "
        f"weights of its backbone: {weights}."
    )
    contents = ["The licences of what this folder holds, which `solobox export` wrote.", trained]
    if not weights.startswith(("Apache-2.0", "apache-2.0", "your own")):
        contents.append("The text of that licence is not below: add it before you pass the model on.")
    texts = [("Apache-2.0", _own_licence())]
    if web:
        contents += [
            "index.html, style.css and the files that end with .js are part of Solobox (Apache-2.0).",
            "runtime/ holds ONNX Runtime Web, by Microsoft (MIT), with parts of others.",
        ]
        texts += [
            ("ONNX Runtime", _of_onnxruntime("LICENSE")),
            ("ONNX Runtime: notices of the parts of others", _of_onnxruntime("ThirdPartyNotices.txt")),
        ]
    return (
        _RULE.join(["\n\n".join(contents), *(f"{title}\n\n{text.strip()}" for title, text in texts)]) + "\n"
    )


def _own_licence() -> str:
    text = distribution("solobox").read_text("licenses/LICENSE")
    if text is None:
        raise RuntimeError("this installation of solobox has no LICENSE")
    return text


def _of_onnxruntime(name: str) -> str:
    """A text of the Python package, which is built from the same source."""
    return (files("onnxruntime") / name).read_bytes().decode("utf-8", "replace")
