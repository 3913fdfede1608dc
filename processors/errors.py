"""What can be wrong with what people write: a path, and what to do about it.

Invalid            a policy, a topology or a request: `path` names the entry, `fix` says what is expected
"""

import re
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_AT = re.compile(r" - at `(?:key in )?\$?\.?([^`]*)`$")
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
        raise Invalid(*path_and_fix(str(error), path)) from None


def convert_map(data: Any, kind: type[T], path: str) -> dict[str, T]:
    """A map of `kind`, each entry converted by itself, because msgspec's own paths do not name a map's key."""
    if not isinstance(data, dict):
        raise Invalid(path, "must be a map of names to entries")
    return {str(name): convert(value, kind, f"{path}.{name}") for name, value in data.items()}


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
