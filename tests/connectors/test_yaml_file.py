"""Files that people write: every mistake is shown with file, line, path and what would mend it."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.yaml_file import InvalidFile, load
from processors.errors import Invalid


def failure(action, path: Path) -> str:
    """What the reader is told, without the folder."""
    with pytest.raises(InvalidFile) as caught:
        action(path)
    return str(caught.value).replace(f"{path.parent}/", "")


class TestLines:
    def test_every_entry_has_its_line(self, write):
        text = "# first\nstages:\n  guard:\n    reads:\n      - journal\n      - keys\n    other: {a: 1,\n      b: 2}\n"
        document = load(write(text))
        assert document.data == {"stages": {"guard": {"reads": ["journal", "keys"], "other": {"a": 1, "b": 2}}}}
        assert document.line_of("stages.guard.reads[1]") == 6
        assert document.line_of("stages.guard.reads") == 4
        assert document.line_of("stages.guard.other.b") == 8

    def test_what_is_missing_has_the_line_of_what_it_is_missing_from(self, write):
        document = load(write("a:\n  b:\n    - {c: 1}\n"))
        assert document.line_of("a.b[0].missing") == 3
        assert document.line_of("a.b[7].c.d") == 2
        assert document.line_of("nowhere.at.all") == 1
        assert document.line_of("") == 1

    def test_a_name_with_dots_is_found(self, write):
        assert load(write('routes:\n  "gpt-4.1":\n    - {model: x}\n')).line_of("routes.gpt-4.1[0].model") == 3

    def test_located_adds_file_and_line(self, write):
        document = load(write("a:\n  b: 1\n"))
        with pytest.raises(InvalidFile, match=r"file\.yaml:2: a\.b: must be text$") as caught, document.located():
            raise Invalid("a.b", "must be text")
        assert (caught.value.path, caught.value.fix, caught.value.line) == ("a.b", "must be text", 2)

    def test_located_leaves_another_files_error_alone(self, write):
        document = load(write("a: 1\n"))
        with pytest.raises(InvalidFile, match=r"^other\.yaml:7: x: y$"), document.located():
            raise InvalidFile(Path("other.yaml"), 7, "x", "y")


class TestAliases:
    def test_merge_and_alias(self, write):
        document = load(write("base: &b {x: 1, y: 2}\nown:\n  <<: *b\n  y: 3\nlist: [*b, *b]\n"))
        assert document.data["own"] == {"x": 1, "y": 3}
        assert document.data["list"] == [{"x": 1, "y": 2}] * 2

    def test_an_alias_of_a_map_with_a_merge(self, write):
        document = load(write("a: &a {x: 1}\nb: &b\n  <<: *a\n  x: 2\nc: [*b, *b]\n"))
        assert document.data["c"] == [{"x": 2}, {"x": 2}]

    def test_a_file_that_contains_itself(self, write):
        assert failure(load, write("a: &a\n  b: *a\n")) == "file.yaml:2: a.b: contains itself; write it out"

    def test_a_file_that_unfolds_without_end(self, write):
        levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10))
        assert "unfolds to more than" in failure(load, write(f"l0: &l0 x\n{levels}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n  x: 1\n  y: 2\n  x: 3\n", "file.yaml:4: a.x: stands twice; keep one"),
        ("a: 1\na: 2\n", "file.yaml:2: a: stands twice; keep one"),
        ("routes:\n  on: 1\n", "file.yaml:2: routes: key on is not text to YAML; put it into quotes"),
        ("404: 1\n", "file.yaml:1: key 404 is not text to YAML; put it into quotes"),
        ("? [a]\n: 1\n", "file.yaml:1: key of this map is not text to YAML; put it into quotes"),
        ("a: [1\nb: 2\n", "file.yaml:2: expected ',' or ']', but got ':'"),
        ("a: .inf\n", "file.yaml:1: a: must be a finite number"),
        ("a: 99999999999999999999\n", "file.yaml:1: a: must fit 64 bits"),
        ("b: 1\na: 2026-02-31\n", "file.yaml:2: a: day is out of range for month"),
        ("a: !secret x\n", "file.yaml:1: could not determine a constructor for the tag '!secret'"),
        ("a: !secret {b: c}\n", "file.yaml:1: a: tag !secret is not known here"),
        ("a: 1\n---\nb: 2\n", "file.yaml:2: but found another document"),
        ("a: 1\nb: \x07\n", "file.yaml:2: holds character '\\x07', which YAML forbids"),
        (b"a: 1\nb: \xff\n", "file.yaml:2: is not UTF-8; save it as UTF-8"),
        ("[" * 5000, "file.yaml: is nested too deeply"),
    ],
)
def test_mistakes(write, text, message):
    assert failure(load, write(text)) == message


def test_half_a_character(write):
    assert "file.yaml:1: a: 'utf-8' codec can't encode" in failure(load, write('a: "\\ud800"\n'))


def test_no_file(tmp_path):
    assert failure(load, tmp_path / "none.yaml") == "none.yaml: there is no such file"


def test_a_folder_instead_of_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    assert failure(load, tmp_path / "folder") == "folder: cannot be read: Is a directory"


def test_an_empty_file_is_no_policy(write):
    assert load(write("")).data is None


@given(st.text())
def test_any_text_is_read_or_refused_by_name(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(InvalidFile):
        load(path)
