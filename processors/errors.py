"""What can be wrong with what people write: a path, and what to do about it.

Invalid            a policy, a topology or a request: `path` names the entry, `fix` says what is expected
"""

import re
from copy import deepcopy
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_AT = re.compile(r" - at `(?:key in )?\$?\.?([^`]*)`$")
_ANY = "[...]"
_STEP = re.compile(r"\[[^\]]*\]|[^.\[\]]+")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_MISSING = re.compile(r"missing required field `([^`]+)`")


class Invalid(ValueError):
    """Input that a person wrote and can mend. Shown as `path: fix`."""

    def __init__(self, path: str, fix: str) -> None:
        super().__init__(f"{path}: {fix}" if path else fix)
        self.path = path
        self.fix = fix


def convert(data: Any, kind: type[T], path: str = "") -> T:
    """Parsed data as `kind`, strictly.

    Raises:
        Invalid: with the path below `path` of the entry at fault.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        at, fix = path_and_fix(str(error))
        if fix.startswith("invalid enum value"):
            fix += _expected(msgspec.inspect.type_info(kind), _steps(at))
        raise Invalid(join(path, _named(data, kind, at, str(error))), fix) from None


def convert_map(data: Any, kind: type[T], path: str) -> dict[str, T]:
    """A map of names to `kind`."""
    if not isinstance(data, dict):
        raise Invalid(path, "must be a map of names to entries")
    return convert(data, dict[str, kind], path)  # type: ignore[valid-type]


def _steps(path: str) -> list[str]:
    """`rules[0].action` as rules, [0], action."""
    return _STEP.findall(path)


def _expected(kind: msgspec.inspect.Type, steps: list[str]) -> str:
    """What may stand at a path, where that is one of a few words."""
    if isinstance(kind, msgspec.inspect.UnionType):
        return next((found for one in kind.types if (found := _expected(one, steps))), "")
    if not steps and isinstance(kind, msgspec.inspect.LiteralType):
        return f"; must be one of {', '.join(map(str, kind.values))}"
    inner: msgspec.inspect.Type | None = None
    if steps and isinstance(kind, msgspec.inspect.StructType):
        inner = next((field.type for field in kind.fields if field.encode_name == steps[0]), None)
    elif steps and isinstance(kind, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        inner = kind.item_type
    elif steps and isinstance(kind, msgspec.inspect.DictType):
        inner = kind.value_type
    return _expected(inner, steps[1:]) if inner else ""


def _named(data: Any, kind: Any, path: str, message: str) -> str:
    """The path with the keys of maps that msgspec tells as [...]: those with which alone it says the same."""
    while _ANY in path:
        before, _, behind = path.partition(_ANY)
        steps = _steps(before)
        for name in _at(data, steps):
            alone = deepcopy(data)
            entries = _at(alone, steps)
            for other in [one for one in entries if one != name]:
                del entries[other]
            if _message(alone, kind) == message:
                data, path = alone, join(before, str(name)) + behind
                break
        else:
            break
    return path


def _at(data: Any, steps: list[str]) -> Any:
    for step in steps:
        data = data[int(step[1:-1])] if step.startswith("[") else data[step]
    return data


def _message(data: Any, kind: Any) -> str:
    try:
        msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def path_and_fix(message: str, prefix: str = "") -> tuple[str, str]:
    """msgspec's message as the path of the field at fault and what is wrong with it."""
    at = _AT.search(message)
    path = at.group(1) if at else ""
    fix = message[: at.start()] if at else message
    for pattern, wording in ((_UNKNOWN, "is not known here"), (_MISSING, "is missing")):
        field = pattern.search(fix)
        if field:
            path, fix = join(path, field.group(1)), wording
    return join(prefix, path), fix[:1].lower() + fix[1:]


def join(*parts: str) -> str:
    """Parts of a path, `[...]` joined without a dot."""
    return ".".join(part for part in parts if part).replace(".[", "[")
