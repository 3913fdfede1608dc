"""JSON Schemas of our types, each field with what its source says of it; for AsyncAPI and for the policy."""

import ast
import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from textwrap import dedent
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect as types

from processors.policy import Policy

Schema = dict[str, Any]

OVERRIDES = ("limits", "timeouts", "cache", "prices")
"""Sections of the policy that a tenant may override in part; typed as plain maps there, as sections here."""


def structs_in(kinds: Iterable[type]) -> tuple[type, ...]:
    """These struct types and all that their fields hold, each once, in order of appearance."""
    found: dict[type, None] = {}
    for kind in kinds:
        for info in _walk(types.type_info(kind)):
            found.setdefault(info.cls)
    return tuple(found)


def _walk(info: types.Type) -> Iterator[types.StructType]:
    if isinstance(info, types.StructType):
        yield info
        for field in info.fields:
            yield from _walk(field.type)
    for inner in parts_of(info):
        yield from _walk(inner)


def parts_of(info: types.Type) -> tuple[types.Type, ...]:
    """The types inside a union, a list, a tuple or a map."""
    if isinstance(info, types.UnionType):
        return info.types
    if isinstance(info, types.ListType | types.VarTupleType):
        return (info.item_type,)
    if isinstance(info, types.TupleType):
        return info.item_types
    return (info.key_type, info.value_type) if isinstance(info, types.DictType) else ()


def components(kinds: Iterable[type], ref_template: str) -> dict[str, Schema]:
    """The schema of every struct in `kinds`, by name, its fields described."""
    structs = structs_in(kinds)
    named = {kind: _without_raw_default(kind) for kind in structs}
    _, schemas = msgspec.json.schema_components(tuple(named.values()), ref_template=ref_template)
    for kind in structs:
        _describe(schemas[kind.__name__], kind)
    return dict(sorted(schemas.items()))


def _without_raw_default(kind: type) -> type:
    """The type itself, or where a field defaults to raw JSON, which msgspec cannot render, a copy free of it."""
    fields = msgspec.structs.fields(kind)
    if not any(isinstance(field.default, msgspec.Raw) for field in fields):
        return kind
    hints = get_type_hints(kind)
    copied: list[tuple[str, Any, Any]] = [
        (field.name, Any, None)
        if isinstance(field.default, msgspec.Raw)
        else (field.name, hints[field.name], _default(field))
        for field in fields
    ]
    config = kind.__struct_config__  # type: ignore[attr-defined]  # every struct has it
    return msgspec.defstruct(kind.__name__, copied, tag=config.tag, tag_field=config.tag_field, kw_only=True)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return msgspec.field() if field.default is msgspec.NODEFAULT else msgspec.field(default=field.default)


def _describe(schema: Schema, kind: type) -> None:
    if kind.__doc__:
        schema["description"] = inspect.cleandoc(kind.__doc__)
    info = types.type_info(kind)
    assert isinstance(info, types.StructType)
    docs = attribute_docs(kind)
    for field in info.fields:
        entry = schema["properties"][field.encode_name]
        if field.name in docs:
            entry["description"] = docs[field.name]
        _mark_times(entry, field.type)


def _mark_times(entry: Schema, info: types.Type) -> None:
    """msgspec says `date-time` only of times that must have a zone; ours are all RFC 3339."""
    if isinstance(info, types.DateTimeType):
        entry["format"] = "date-time"
    for branch, inner in zip(_branches(entry), parts_of(info), strict=False):
        _mark_times(branch, inner)


def _branches(entry: Schema) -> list[Schema]:
    """The schemas that stand for `parts_of` a type."""
    for name in ("anyOf", "prefixItems"):
        if name in entry:
            return list(entry[name])
    if isinstance(entry.get("items"), dict):
        return [entry["items"]]
    value = entry.get("additionalProperties")
    return [{}, value] if isinstance(value, dict) else []  # of a map: its keys, which have no schema, and its values


@cache
def attribute_docs(kind: type) -> dict[str, str]:
    """The strings that stand below fields in the source of a struct and of what it inherits from."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            docs |= _docs_in(base)
    return docs


def _docs_in(kind: type) -> dict[str, str]:
    [body] = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def policy_schema() -> Schema:
    """The JSON Schema of policy.yaml, by which an editor completes and checks it while it is written.

    What only the whole file shows (a route's provider, a phrase file) is left to `sluice policy check`.
    """
    definitions = components([Policy], "#/$defs/{name}")
    for name in OVERRIDES:
        section = definitions["Tenant"]["properties"][name]
        section["anyOf"] = [{"$ref": f"#/$defs/{name.capitalize()}"}, {"type": "null"}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sluice policy",
        **definitions.pop("Policy"),
        "$defs": definitions,
    }
