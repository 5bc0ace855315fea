"""Makes values.schema.json and README.md of the chart from the comments of its values.yaml.

    python -m helm.values_reference            write both
    python -m helm.values_reference --check    exit with 1 where one of them is not what it would write

Each value has a comment above it: sentences, then one line "# @ <type>". A mapping without a type is a section, in
which no other key is allowed. The types are those of `_TYPES` and `_parameterised`; one of them, `like PATH`, is a
section with the values of another, all of them optional. What a type allows is decided here, what values mean there.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).parent / "stepaudio"
Schema = dict[str, Any]  # JSON Schema is whatever JSON can say


def _string(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def _closed(properties: Mapping[str, Schema], *, required: tuple[str, ...] = ()) -> Schema:
    schema: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_NAME: Final = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_HOST: Final = r"(\*\.)?[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_QUANTITY: Final = _string(r"^[0-9]+(\.[0-9]+)?(m|[kMGTP]|[KMGTP]i)?$")
_TEXTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
_AMOUNTS: Final = _closed({"cpu": _QUANTITY, "memory": _QUANTITY, "ephemeral-storage": _QUANTITY})
_FREE: Final[Schema] = {"type": "object"}

_TYPES: Final[dict[str, Schema]] = {
    "bool": {"type": "boolean"},
    "string": {"type": "string"},
    "map": _TEXTS,
    "name": _string(f"^({_NAME})?$"),
    "ref": _string(f"^{_NAME}$"),
    "host": _string(f"^({_HOST})?$"),
    "arg": {"type": "string", "minLength": 1},
    "cidr": _string(r"^([0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}|[0-9a-fA-F:]+/[0-9]{1,3})$"),
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "quantity": _QUANTITY,
    "duration": _string(r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"),
    "resources": _closed({"requests": _AMOUNTS, "limits": _AMOUNTS}, required=("requests", "limits")),
    "affinity": _closed({"nodeAffinity": _FREE, "podAffinity": _FREE, "podAntiAffinity": _FREE}),
    "toleration": _closed(
        {
            "key": {"type": "string"},
            "operator": {"enum": ["Exists", "Equal"]},
            "value": {"type": "string"},
            "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            "tolerationSeconds": {"type": "integer", "minimum": 0},
        }
    ),
    "image": _closed(
        {
            "repository": _string(r"^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?$"),
            "tag": _string(r"^([\w][\w.-]{0,127})?$"),
            "digest": _string(r"^(sha256:[0-9a-f]{64})?$"),
        },
        required=("repository",),
    ),
    "repository": _closed(
        {"name": _string(r"^[\w.-]+/[\w.-]+$"), "revision": _string(r"^[\w.-]+$")}, required=("name", "revision")
    ),
    "engineBuild": _closed(
        {
            "name": _string(r"^[a-z]([-a-z0-9]{0,20}[a-z0-9])?$"),
            "room": {"enum": ["tokenizer", "vocoder"]},
            "command": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "nodeSelector": _TEXTS,
        },
        required=("name", "room"),
    ),
}


@dataclass(frozen=True, slots=True)
class Value:
    """One value of values.yaml.

    Attributes:
        path: keys from the root, with dots.
        sentences: of its comment.
        kind: its type's line; empty for a section.
        default: what stands in the file.
    """

    path: str
    sentences: str
    kind: str
    default: object


def read_values(text: str) -> Iterator[Value]:
    """All values and sections, in the file's order; what lies inside a typed value is part of its default.

    Raises:
        ValueError: a value has no comment or no type.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _walk(root, "", text.splitlines(), yaml.safe_load(text))


def make_schema(values: list[Value]) -> Schema:
    """The strict schema of all values."""
    root: Schema = _closed({"global": {"type": "object", "description": "Helm's own; nothing of it is read."}})
    for value in values:
        *parents, key = value.path.split(".")
        section = root
        for parent in parents:
            section = section["properties"][parent]
        schema = _schema_of(value.kind, root) if value.kind else _closed({})
        section["properties"][key] = {"description": value.sentences, **schema} if value.sentences else schema
    return {"$schema": "https://json-schema.org/draft-07/schema#", "title": "Values of stepaudio", **root}


def make_readme(values: list[Value]) -> str:
    """The reference of all values in Markdown."""
    lines = [
        "# Values of the chart",
        "",
        "Made from the comments of [`values.yaml`](values.yaml) by `python -m helm.values_reference`; a test holds the",
        "page to it. How to install is told in [the operations guide](../../docs/operations.md).",
        "",
        "| value | type | default | means |",
        "|---|---|---|---|",
    ]
    for value in values:
        if not value.kind:
            lines.append(f"| **`{value.path}`** | | | {_cell(value.sentences)} |")
            continue
        default = json.dumps(value.default, ensure_ascii=False)
        lines.append(
            f"| `{value.path}` | {_cell(_spoken(value.kind))} | `{_cell(default)}` | {_cell(value.sentences)} |"
        )
    return "\n".join(lines) + "\n"


def written(values_text: str) -> dict[str, str]:
    """What belongs into each generated file, by its name."""
    values = list(read_values(values_text))
    schema = json.dumps(make_schema(values), indent=2, ensure_ascii=False) + "\n"
    return {"values.schema.json": schema, "README.md": make_readme(values)}


def main(arguments: list[str] | None = None) -> int:
    """Write or check; 1 where a check fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    is_check = parser.parse_args(arguments).check
    stale = False
    for name, text in written((CHART / "values.yaml").read_text(encoding="utf-8")).items():
        path = CHART / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if not is_check:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and is_check else 0


def _walk(node: yaml.MappingNode, prefix: str, lines: list[str], data: Mapping[str, Any]) -> Iterator[Value]:
    for key_node, value_node in node.value:
        path = f"{prefix}{key_node.value}"
        sentences, kind = _comment_above(lines, key_node.start_mark.line)
        default = data[key_node.value]
        if kind:
            if not sentences:
                raise ValueError(f"{path} has a type and no sentence")
            yield Value(path, sentences, kind, default)
        elif isinstance(value_node, yaml.MappingNode) and not value_node.flow_style:
            yield Value(path, sentences, "", None)
            yield from _walk(value_node, f"{path}.", lines, default)
        else:
            raise ValueError(f"{path} has no type: a comment above it must end with a line '# @ type'")


def _comment_above(lines: list[str], line: int) -> tuple[str, str]:
    """The sentences and the type above a line; a blank line ends a comment."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    comment = [text.strip().removeprefix("#").strip() for text in lines[first:line]]
    kinds = [text.removeprefix("@").strip() for text in comment if text.startswith("@")]
    return " ".join(text for text in comment if text and not text.startswith("@")), kinds[-1] if kinds else ""


def _schema_of(kind: str, root: Schema) -> Schema:
    if kind in _TYPES:
        return dict(_TYPES[kind])
    word, _, rest = kind.partition(" ")
    if word == "list":
        return _list(_schema_of(rest, root))
    if word == "like":
        section = root
        for key in rest.split("."):
            section = section["properties"][key]
        return {name: part for name, part in section.items() if name != "description"}
    return _parameterised(word, rest, kind)


def _parameterised(word: str, rest: str, kind: str) -> Schema:
    if word == "string":
        return _string(rest.removeprefix("/").removesuffix("/").replace(r"\/", "/"))
    if word == "enum":
        return {"enum": rest.split("|")}
    if word == "oneof":
        return {"enum": [int(number) for number in rest.split()]}
    if word in ("int", "number"):
        number = int if word == "int" else float
        low, high = (number(bound) for bound in rest.split(".."))
        return {"type": "integer" if word == "int" else "number", "minimum": low, "maximum": high}
    raise ValueError(f"{kind!r} is no type of a value")


def _spoken(kind: str) -> str:
    word, _, rest = kind.partition(" ")
    return {"string": "string", "enum": rest.replace("|", ", "), "oneof": rest.replace(" ", ", ")}.get(word, kind)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
