"""The parts of the documentation that are made from the code, so that they cannot be wrong.

Each is a fragment in ``_generated``, which a page of the site includes.
"""

import ast
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, cast, get_args, get_origin

import jupytext
from pydantic.fields import FieldInfo

import solobox
from solobox import synthetic
from solobox.images.drawing import Tile, contact_sheet, truth

_PARAMETERS = re.compile(r"(`?[A-Za-z_]\w*`?(?:, `?\w+`?)*): ")
_GROUPS = (("recipe", "Recipe"), ("architecture", "Architecture"), ("optimizer", "OptimizerConfig"))


def write_pages(source: Path) -> None:
    """Write all fragments and pictures into ``_generated`` of the folder `source`; unchanged files are not touched."""
    folder = source / "_generated"
    folder.mkdir(exist_ok=True)
    pages = {"cli.md": cli(), "config.md": options(), "http.md": http(), "errors.md": errors()}
    pages["findings.md"] = findings()
    for notebook in sorted((source / "notebooks").glob("*.py")):
        pages[f"{notebook.stem}.md"] = notebook_page(notebook)
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    if not (folder / "drawn.jpg").exists():
        tiles: list[Tile] = []
        for number in range(8):
            scene = synthetic.draw(number, (320, 240))
            tiles.append((scene.pixels, [truth(scene.box)] if scene.box is not None else [], scene.label))
        contact_sheet(tiles, columns=4, tile=200, legend=[]).save(folder / "drawn.jpg", quality=85)


def cli() -> str:
    """The commands with all options."""
    from cyclopts import App

    from solobox.cli import _COMMANDS

    app = App(name="solobox")
    for name in _COMMANDS:  # with their whole docstrings, as `solobox COMMAND --help` has them
        app.command(f"solobox.cli.{name}:{name}", name=name)
    text = app.generate_docs(heading_level=1)
    sections = re.split(r"^## solobox (\w+)\n", text, flags=re.MULTILINE)[1:]
    bodies = dict(zip(sections[::2], sections[1::2], strict=True))
    lines = ["| command | |", "| --- | --- |"]
    lines += [f"| [`{name}`](#solobox-{name}) | {help_} |" for name, help_ in _COMMANDS.items()]
    for name in _COMMANDS:
        body = re.sub(r" \*\[default: \(\)\]\*", "", bodies[name])
        body = re.sub(r"\*?\[default: (.*?)\]\*?(?=\n| \*\[)", r"*default:* `\1`", body)
        body = re.sub(r"\*\[choices: (.*?)\]\*", _choices, body)
        body = re.sub(r"^\*\*(.*?)\*\*:$", r"**\1**", body, flags=re.MULTILINE)
        lines += ["", f"## solobox {name}", body.rstrip()]
    return "\n".join(lines) + "\n"


def _choices(match: re.Match[str]) -> str:
    return "*choices:* " + ", ".join(f"`{each}`" for each in match[1].split(", "))


def options() -> str:
    """The options of a recipe: the keys of a TOML file."""
    from solobox.config.options import Options, options_of

    lines = []
    for title, name in _GROUPS:
        kind = cast("type[Options]", getattr(solobox, name, None) or _optimizer())
        lines += [
            f"## Keys of the {title}",
            "",
            "| key | type and range | default | |",
            "| --- | --- | --- | --- |",
        ]
        for key, field in options_of(kind).items():
            default = field.get_default()
            shown = list(default) if isinstance(default, tuple) else default
            value = (
                f'"{shown}"'
                if isinstance(shown, str)
                else str(shown).lower()
                if shown in (True, False)
                else shown
            )
            lines.append(f"| `{key}` | {_type(field)} | `{value}` | {_cell(str(field.description))} |")
        lines.append("")
    return "\n".join(lines)


def _optimizer() -> Any:
    from solobox.config.optim import OptimizerConfig

    return OptimizerConfig


def _type(field: FieldInfo) -> str:
    bounds = {type(each).__name__: each for each in field.metadata}
    lower, upper = getattr(bounds.get("Ge"), "ge", None), getattr(bounds.get("Le"), "le", None)
    text = _type_name(field.annotation)
    return text + (f", {lower:g} to {upper:g}" if lower is not None and upper is not None else "")


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f'`"{each}"`' for each in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin in (typing.Union, UnionType):
        return " or ".join(_type_name(each) for each in arguments)
    return {int: "integer", float: "number", bool: "`true` or `false`", str: "text"}[annotation]


def http() -> str:
    """The routes of the server and the JSON that it takes and gives, from its OpenAPI description."""
    from solobox.serve.app import build_app
    from solobox.serve.prometheus import ServerMetrics
    from solobox.serve.settings import ServerSettings
    from solobox.serve.state import ServerState

    context: Any = SimpleNamespace(
        name="model", model=None, settings=ServerSettings(), metrics=ServerMetrics(), batcher=None,
        uploads=None, state=ServerState(),
    )  # fmt: skip
    schema = build_app(context).openapi()
    lines: list[str] = []
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            lines += [f"### {method.upper()} {path}", "", f"{operation['summary']}.", ""]
            if operation.get("description"):
                lines += [operation["description"], ""]
            lines += _request(operation)
    lines += ["## Objects", ""]
    for name, body in schema["components"]["schemas"].items():
        lines += _object(name, body)
    return "\n".join(lines) + "\n"


def _request(operation: Mapping[str, Any]) -> Iterator[str]:
    parameters = [each for each in operation.get("parameters", []) if each["in"] != "path"]
    if parameters:
        yield from ("| parameter | type | |", "| --- | --- | --- |")
        for each in parameters:
            kind = _schema(each["schema"])
            yield f"| `{each['name']}` ({each['in']}) | {kind} | {_cell(each.get('description', ''))} |"
        yield ""
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        kinds = [
            f"`{kind}`" + (f" ({text})" if (text := _named(body)) else "") for kind, body in content.items()
        ]
        yield from (f"Body: {', '.join(kinds)}.", "")
    yield from ("| status | response | |", "| --- | --- | --- |")
    for status, response in operation["responses"].items():
        named = [_schema(body.get("schema", {})) for body in response.get("content", {}).values()]
        yield f"| {status} | {' or '.join(filter(None, dict.fromkeys(named)))} | {_cell(response['description'])} |"
    yield ""


def _named(body: Mapping[str, Any]) -> str:
    return _schema(body["schema"]) if "$ref" in str(body) else ""


def _schema(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_schema(each) for each in schema[key])
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{each!r}`" for each in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", ""))
    if kind == "array" and schema.get("items"):
        count = schema.get("minItems", "") if schema.get("minItems") == schema.get("maxItems") else ""
        return f"list of {count} {_schema(schema['items'])}".replace("  ", " ")
    if kind in ("number", "integer") and {"minimum", "maximum"} <= schema.keys():
        return f"{kind}, {schema['minimum']:g} to {schema['maximum']:g}"
    return kind


def _object(name: str, body: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {name}", "", str(body.get("description", "")), "")
    if not body.get("properties"):
        return
    yield from ("| member | type | |", "| --- | --- | --- |")
    for member, schema in body["properties"].items():
        yield f"| `{member}` | {_schema(schema)} | {_cell(schema.get('description', ''))} |"
    yield ""


def errors() -> str:
    """Every code that the package raises an error with, and what one of these errors says."""
    texts: dict[str, str] = {}
    for path in sorted(Path(solobox.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("Error"):
                continue
            codes = [each.value for each in node.keywords if each.arg == "code"]
            code = codes[0] if codes else _default_code(ast.unparse(node.func))
            if code is not None and _with_holes(code) and node.args:
                known, text = texts.get(_with_holes(code), ""), _with_holes(node.args[0])
                texts[_with_holes(code)] = max(known, text, key=len)
    cells = {code: _cell(text).replace("<", "&lt;") for code, text in sorted(texts.items())}
    rows = (f"| `{code}` | {text} |" for code, text in cells.items())
    return "\n".join(["| code | for example |", "| --- | --- |", *rows]) + "\n"


def _default_code(name: str) -> ast.expr | None:
    kind = getattr(solobox, name, None)
    return ast.Constant(kind.code) if kind is not None and issubclass(kind, solobox.SoloboxError) else None


def _with_holes(node: ast.expr) -> str:
    """A text of the source, with ... for what is filled in; without a text, nothing."""
    if isinstance(node, ast.Constant):
        return str(node.value or "")
    if isinstance(node, ast.JoinedStr):
        return "".join(
            "..." if isinstance(each, ast.FormattedValue) else _with_holes(each) for each in node.values
        )
    if isinstance(node, ast.BinOp):
        return _with_holes(node.left) + _with_holes(node.right)
    return ""


def findings() -> str:
    """Every code of a finding of `solobox check`, with its level."""
    from solobox.data.checks.diagnosis import CODES

    rows = (f"| `{code}` | {level} |" for code, level in CODES.items())
    return "\n".join(["| code | level |", "| --- | --- |", *rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def notebook_page(path: Path) -> str:
    """A notebook in the percent format as a page: its text, and its code as Python."""
    cells = jupytext.read(path).cells
    parts = (
        each.source if each.cell_type == "markdown" else f"```python\n{each.source}\n```" for each in cells
    )
    return "\n\n".join(parts) + "\n"


def docstring_to_rst(
    _app: object, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Turn a docstring into reStructuredText, for autodoc: lines that explain parameters become a list.

    Such a line begins with a name and a colon, and goes on in indented ones; a paragraph that is indented is code.
    """
    result: list[str] = []
    start = True
    for line in lines:
        if not line.strip():
            result.append("")
            start = True
            continue
        if (start or _in_list(result)) and (match := _PARAMETERS.match(line)):
            if result and result[-1]:
                result.append("")
            result.append(f"* **{match[1].replace('`', '')}**: {line[match.end() :]}")
        elif line.startswith("    ") and start:
            result += ["::", "", line]
        elif line.startswith("    ") and not start:
            result.append(f"  {line.strip()}" if _in_list(result) else line)
        else:
            result.append(f"  {line}" if _in_list(result) and not start else line)
        start = False
    lines[:] = result


_LONG_TYPES = (
    (
        r"_Buffer \| _SupportsArray\[.*?_NestedSequence\[complex \| bytes \| str\]",
        "ArrayLike",
    ),
    (r"ndarray\[tuple\[Any, \.\.\.\], dtype\[\w+\]\]", "ndarray"),
)
_MODULE = r"~(?:\w+\.)+"


def shorten_types(
    _app: object,
    _what: str,
    _name: str,
    _object: object,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Name NumPy's long types as people do, for autodoc."""
    for pattern, name in ((_MODULE, ""), *_LONG_TYPES):
        signature = signature and re.sub(pattern, name, signature)
        returns = returns and re.sub(pattern, name, returns)
    return signature, returns


def _in_list(lines: list[str]) -> bool:
    """Whether the last paragraph is an entry of a list."""
    for line in reversed(lines):
        if line.startswith("* "):
            return True
        if not line.startswith("  ") or line.startswith("   "):
            return False
    return False
