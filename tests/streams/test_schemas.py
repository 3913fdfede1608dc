"""Schemas carry what the source says of a field, and say times and raw JSON as they are."""

from datetime import datetime

import msgspec

from streams.schemas import attribute_docs, components, structs_in


class Base(msgspec.Struct, tag_field="type"):
    first: int
    """Of the base."""


class Leaf(msgspec.Struct):
    at: datetime
    many: list[datetime | None] = []
    named: dict[str, datetime] = {}
    pair: tuple[int, datetime] | None = None


class Whole(Base, tag="whole"):
    """Has
    two lines.
    """

    second: dict[str, Leaf] | None = None
    """On the field.

    With a paragraph.
    """
    third: tuple[int, Leaf] | None = None
    raw: msgspec.Raw = msgspec.Raw()
    fresh: list[int] = msgspec.field(default_factory=lambda: [1])
    "Said in plain quotes."

    @property
    def not_a_field(self) -> int:
        return 1

    "A string that documents nothing."


def test_docs_of_attributes():
    assert attribute_docs(Whole) == {
        "first": "Of the base.",
        "second": "On the field.\n\nWith a paragraph.",
        "fresh": "Said in plain quotes.",
    }


def test_structs_are_found_inside_maps_tuples_and_unions():
    assert structs_in([Whole]) == (Whole, Leaf)
    assert structs_in([Leaf, Whole]) == (Leaf, Whole)


def test_a_struct_with_raw_json_has_a_schema():
    whole = components([Whole], "#/{name}")["Whole"]
    assert whole["title"] == "Whole"
    assert whole["description"] == "Has\ntwo lines."
    assert whole["required"] == ["type", "first"]
    assert whole["properties"]["type"] == {"enum": ["whole"]}
    assert whole["properties"]["raw"] == {"default": None}
    assert whole["properties"]["second"]["description"] == "On the field.\n\nWith a paragraph."
    assert whole["properties"]["fresh"]["type"] == "array"


def test_times_say_their_format():
    leaf = components([Leaf], "#/{name}")["Leaf"]
    time = {"type": "string", "format": "date-time"}
    assert leaf["properties"]["at"] == time
    assert leaf["properties"]["many"]["items"] == {"anyOf": [time, {"type": "null"}]}
    assert leaf["properties"]["named"]["additionalProperties"] == time
    assert leaf["properties"]["pair"]["anyOf"][0]["prefixItems"] == [{"type": "integer"}, time]
