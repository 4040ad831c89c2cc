"""What a configuration may say, read from the code itself without importing it.

Importing torch takes seconds; a typo should be answered at once. So the keyword arguments of a variant or a data source
are read from the source text by `ast`, and the shared settings from the dataclasses in `lit_gan.settings`.
A test holds both against `inspect.signature`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
GIVEN_BY_DATA = ("image_shape", "num_classes", "source_shape")  # keywords of every variant that nobody types


@dataclass(frozen=True)
class Keyword:
    """One value of a configuration: its type as written in the code, its default, and the comment beside it."""

    annotation: str
    default: Any
    comment: str = ""


def keywords(target: str) -> dict[str, Keyword]:
    """The keyword arguments of the class `"package.module:Class"`, its bases' first where it takes `**keywords`."""
    tree, lines, cls = _class(target)
    init = next((n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    found: dict[str, Keyword] = {}
    if init is None or init.args.kwarg is not None:
        for base in cls.bases:
            if (base_target := _imported(tree, target, base)) is not None:
                found.update(keywords(base_target))
    if init is not None:
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
            if argument.annotation is None or default is None:
                raise TypeError(f"{target}: keyword {argument.arg} needs a type and a default")
            written = lines[argument.lineno - 1 : default.end_lineno]  # a formatter may spread it over lines
            comment = next((c.strip() for line in written if (c := line.partition("#")[2])), "")
            found[argument.arg] = Keyword(
                ast.unparse(argument.annotation), ast.literal_eval(default), comment
            )
    return found


def optim_defaults(target: str) -> dict[str, Any]:
    """The arguments of a variant's class attribute `optim_defaults = Optim(...)`: the paper's optimiser."""
    _, _, cls = _class(target)
    for node in cls.body:
        name = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(name, ast.Name) and name.id == "optim_defaults" and isinstance(value, ast.Call):
            return {k.arg: ast.literal_eval(k.value) for k in value.keywords if k.arg is not None}
    return {}


def summary(target: str) -> str:
    """What the class's module says of itself first, without the source in brackets."""
    tree, _, _ = _class(target)
    text = " ".join((ast.get_docstring(tree) or "").partition("\n\n")[0].split())
    return re.split(r" \(|[.;] ", f"{text} ", maxsplit=1)[0].strip(" .")


def section(cls: type) -> Iterator[tuple[str, Keyword]]:
    """The fields of a settings dataclass as dotted keys, nested dataclasses included."""
    _, lines, node = _class(f"{cls.__module__}:{cls.__name__}")
    comments = {
        n.target.id: lines[n.lineno - 1].partition("#")[2].strip()
        for n in node.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    example = cls()
    for field in dataclasses.fields(example):
        default = getattr(example, field.name)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            for name, keyword in section(type(default)):
                yield f"{field.name}.{name}", keyword
        else:
            yield field.name, Keyword(str(field.type), default, comments.get(field.name, ""))


def convert(value: Any, annotation: str) -> Any:
    """`value` as the type `annotation`; raises `TypeError` with a readable type where it cannot be one."""
    for member in _members(ast.parse(annotation, mode="eval").body):
        with suppress(TypeError, ValueError, OverflowError):  # the last of an infinite integer
            return _convert_one(value, member)
    raise TypeError(readable(annotation))


def readable(annotation: str) -> str:
    """`annotation` in words for an error line."""
    words = {
        "int": "an integer",
        "float": "a number",
        "str": "a text",
        "bool": "true or false",
        "None": "null",
    }
    parts = []
    for member in _members(ast.parse(annotation, mode="eval").body):
        text = ast.unparse(member)
        if text.startswith("Literal["):
            parts.extend(text[len("Literal[") : -1].replace("'", "").split(", "))
        elif text.startswith("list["):
            parts.append(f"a list of {readable(text[len('list[') : -1])}")
        elif text.startswith("tuple["):
            parts.append(f"a list of {text.count(',') + 1} numbers")
        else:
            parts.append(words.get(text, text))
    return " or ".join(dict.fromkeys(parts))


def _members(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_members(node.left), *_members(node.right)]
    return [node]


def _convert_one(value: Any, member: ast.expr) -> Any:
    if isinstance(member, ast.Subscript):
        return _convert_generic(value, ast.unparse(member.value), member.slice)
    kind = ast.unparse(member)
    if kind == "None" and value is None:
        return None
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int" and not isinstance(value, bool):
        if isinstance(value, float) and value != int(value):
            raise ValueError
        return int(value)  # 1e5 and "150_000" too
    if kind == "float" and not isinstance(value, bool):
        return float(value)
    if kind == "str" and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise TypeError


def _convert_generic(value: Any, kind: str, inner: ast.expr) -> Any:
    if kind == "Literal":
        allowed = ast.literal_eval(inner)
        allowed = allowed if isinstance(allowed, tuple) else (allowed,)
        return allowed[allowed.index(value)]
    if kind == "list":
        value = value.split(",") if isinstance(value, str) else value  # fid,kid is [fid,kid]
        items = value if isinstance(value, (list, tuple)) else [value]
        return [convert(item, ast.unparse(inner)) for item in items]
    if kind == "tuple" and isinstance(inner, ast.Tuple) and isinstance(value, (list, tuple)):
        if len(value) != len(inner.elts):
            raise ValueError
        return tuple(convert(item, ast.unparse(kind_)) for item, kind_ in zip(value, inner.elts, strict=True))
    raise TypeError


@functools.cache
def _module(module: str) -> tuple[ast.Module, list[str]]:
    text = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text(encoding="utf-8")
    return ast.parse(text), text.splitlines()


def _class(target: str) -> tuple[ast.Module, list[str], ast.ClassDef]:
    module, _, name = target.partition(":")
    tree, lines = _module(module)
    return tree, lines, next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)


def _imported(tree: ast.Module, target: str, base: ast.expr) -> str | None:
    """`"module:Class"` of a base class defined in, or imported into, the same file from this package."""
    if not isinstance(base, ast.Name):
        return None
    if any(isinstance(n, ast.ClassDef) and n.name == base.id for n in tree.body):
        return f"{target.partition(':')[0]}:{base.id}"
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lit_gan"):
            for alias in node.names:
                if (alias.asname or alias.name) == base.id:
                    return f"{node.module}:{alias.name}"
    return None
