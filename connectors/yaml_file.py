"""The files people write, in YAML: parsed so that whatever is wrong can be pointed at by file and line."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from processors.errors import Invalid, join

MOST_ENTRIES = 100_000
"""Aliases of aliases can unfold a small file into billions of entries; no file of ours comes near this."""


class InvalidFile(Invalid):
    """An `Invalid` that knows where its entry stands: shown as `FILE:LINE: path: fix`."""

    def __init__(self, file: Path, line: int | None, path: str, fix: str) -> None:
        super().__init__(path, fix)
        self.file = file
        self.line = line

    def __str__(self) -> str:
        at = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{at}: {self.path}: {self.fix}" if self.path else f"{at}: {self.fix}"


class Document:
    """A parsed file: `data` as plain Python, and the line of every entry."""

    def __init__(self, file: Path, data: Any, lines: dict[str, int]) -> None:
        self.file = file
        self.data = data
        self._lines = lines

    def line_of(self, path: str) -> int:
        """The line of an entry such as `stages.guard.reads[1]`; of what it is missing from, where there is none."""
        while path not in self._lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._lines.get(path, 1)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Give every `Invalid` raised inside this file's name and the line of its path."""
        try:
            yield
        except InvalidFile:
            raise
        except Invalid as error:
            raise InvalidFile(self.file, self.line_of(error.path), error.path, error.fix) from None


def load(path: Path) -> Document:
    """Read and parse one file.

    Raises:
        InvalidFile: it is missing, is no UTF-8 or no YAML, or says a key twice.
    """
    text = read_text(path)
    try:
        builder = _Builder(path, yaml.SafeLoader(text))
        return Document(path, builder.document(), builder.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "is no YAML"
        raise InvalidFile(path, mark.line + 1 if mark else None, "", problem) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InvalidFile(path, line, "", f"holds character {chr(error.character)!r}, which YAML forbids") from None
    except RecursionError:
        raise InvalidFile(path, None, "", "is nested too deeply") from None


class _Builder:
    """Turns YAML's nodes into data, noting lines; PyYAML's own constructor forgets both lines and repeated keys."""

    def __init__(self, file: Path, loader: yaml.SafeLoader) -> None:
        self.lines: dict[str, int] = {}
        self._file = file
        self._loader = loader
        self._inside: list[yaml.Node] = []
        self._merged: set[int] = set()

    def document(self) -> Any:
        """The whole file; None for an empty one."""
        node = self._loader.get_single_node()
        return None if node is None else self._build(node, "")

    def _build(self, node: yaml.Node, path: str) -> Any:
        self._check(node, path)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"):
            raise self._error(node, path, f"tag {node.tag} is not known here")
        self._inside.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self._entry(item, f"{path}[{index}]", item) for index, item in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            return self._mapping(node, path)
        finally:
            self._inside.pop()

    def _entry(self, marked: yaml.Node, path: str, value: yaml.Node) -> Any:
        self.lines[path] = marked.start_mark.line + 1
        return self._build(value, path)

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        if id(node) not in self._merged:  # an alias brings the same node again, its merges done
            self._merged.add(id(node))
            self._check_keys(node, path)
            self._loader.flatten_mapping(node)  # `<<`; what stands in the map itself comes last and wins
        return {(name := self._key(key, path)): self._entry(key, join(path, name), value) for key, value in node.value}

    def _check_keys(self, node: yaml.MappingNode, path: str) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            name = self._key(key, path)
            if name in seen:
                raise self._error(key, join(path, name), "stands twice; keep one")
            seen.add(name)

    def _key(self, node: yaml.Node, path: str) -> str:
        if node.tag == "tag:yaml.org,2002:merge":
            return "<<"
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            shown = node.value if isinstance(node, yaml.ScalarNode) else "of this map"
            raise self._error(node, path, f"key {shown} is not text to YAML; put it into quotes")
        return str(self._scalar(node, path))

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        try:
            return _fit_for_json(self._loader.construct_object(node))
        except ValueError as error:  # also a date such as 2026-02-31
            raise self._error(node, path, str(error)) from None

    def _check(self, node: yaml.Node, path: str) -> None:
        if any(node is outer for outer in self._inside):
            line = self.lines.get(path, node.start_mark.line + 1)  # where the alias stands, not what it names
            raise InvalidFile(self._file, line, path, "contains itself; write it out")
        if len(self.lines) > MOST_ENTRIES:
            raise self._error(node, path, f"the file unfolds to more than {MOST_ENTRIES} entries")

    def _error(self, node: yaml.Node, path: str, fix: str) -> InvalidFile:
        return InvalidFile(self._file, node.start_mark.line + 1, path, fix)


def _fit_for_json(value: Any) -> Any:
    """What stands in these files also travels as JSON, which knows no infinity, no huge number, no half character."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("must fit 64 bits")
    if isinstance(value, str) and not value.isprintable():
        value.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
    return value


def read_text(file: Path) -> str:
    """A file's text.

    Raises:
        InvalidFile: it is missing, cannot be read, or is no UTF-8.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidFile(file, None, "", "there is no such file") from None
    except OSError as error:
        raise InvalidFile(file, None, "", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidFile(file, line, "", "is not UTF-8; save it as UTF-8") from None
