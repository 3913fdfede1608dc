"""What a model's name and options make of a request."""

from itertools import islice
from typing import Any

import orjson
import pytest

from connectors.simulated.script import BEHAVIOURS, Script, UnknownModel, script
from connectors.simulated.texts import STORY, STORY_RU, cut
from processors.errors import Invalid


def play(model: str, text: str = "hello there", **fields: Any) -> Script:
    return script({"model": model, "messages": [{"role": "user", "content": text}]} | fields)


def contents(model: str, text: str = "hello there", **fields: Any) -> list[str]:
    return [delta["content"] for delta in islice(play(model, text, **fields).deltas, 1000)]


@pytest.mark.parametrize("text", [STORY, STORY_RU, " a  b\n", "", "один"])
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(cut(text)) == text


def test_texts() -> None:
    assert contents("echo", "a b c") == ["a ", "b ", "c"]
    assert contents("say?text=one+two") == ["one ", "two"]
    assert contents("numbers?n=3") == ["1 ", "2 ", "3 "]
    assert contents("story?n=2") == ["The ", "lock "]
    assert len(contents("endless")) == 1000


def test_echo_joins_the_text_parts_of_the_last_user_message() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]
    messages = [{"role": "user", "content": "old"}, {"role": "user", "content": parts}, {"role": "assistant"}]
    assert contents("echo", messages=messages) == ["a ", "b"]


def test_a_scripted_answer() -> None:
    simulate = {"deltas": ["При", "вет", {"refusal": "no"}], "pace_ms": 5, "fault": "close", "after": 2}
    played = play("script", orjson.dumps({"simulate": simulate}).decode())
    assert list(played.deltas) == [{"content": "При"}, {"content": "вет"}, {"refusal": "no"}]
    assert (played.options.pace_ms, played.options.fault, played.options.after) == (5, "close", 2)


@pytest.mark.parametrize("text", ["hi", "[]", "{}", '{"simulate":3}'])
def test_a_script_that_is_none(text: str) -> None:
    with pytest.raises(Invalid):
        play("script", text)


def test_options_of_behaviours() -> None:
    assert play("fail-429?retry_after=2").options.status == 429
    assert play("hang-after?n=5").options.after == 5
    assert play("slow").options.first_ms == 2000
    assert play("slow?first_ms=5").options.first_ms == 5
    assert play("story", max_tokens=7).limit == 7
    assert play("tool-call").finish_reason == "tool_calls"
    assert play("story?finish_reason=content_filter").finish_reason == "content_filter"


@pytest.mark.parametrize("model", ["gpt-4", "", "fail-200", "fail-", "fail-abc"])
def test_unknown_models(model: str) -> None:
    with pytest.raises(UnknownModel):
        play(model)


@pytest.mark.parametrize(
    ("model", "named"), [("story?speed=1", "speed"), ("story?n=x", "n"), ("story?fault=fire", "fault")]
)
def test_unknown_options_are_named(model: str, named: str) -> None:
    with pytest.raises(Invalid, match=named):
        play(model)


def test_every_behaviour_can_be_played() -> None:
    for name in BEHAVIOURS:
        played = play(name, '{"simulate": {"deltas": ["x"]}}')
        assert list(islice(played.deltas, 10)) or played.options.after == -1 or name == "say"
