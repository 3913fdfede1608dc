"""The environment decides where we run; a slip in it is named."""

from pathlib import Path

import msgspec
import pytest

from processors.errors import Invalid
from streams.settings import SERVICES_FILE, Services, Settings, connected, load_settings


def test_nothing_set_gives_loopback_defaults() -> None:
    settings = load_settings({"PATH": "/bin"})
    assert settings == Settings()
    assert (settings.host, settings.kafka_mode) == ("127.0.0.1", "unset")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SLUICE_KAKFA", "local", "not a setting"),
        ("SLUICE_KAFKA", "everywhere", "none of local, embedded, HOST:PORT"),
        ("SLUICE_PORT", "eighty", "'eighty' is not a whole number"),
        ("SLUICE_DRAIN_S", "long", "'long' is not a number"),
        ("SLUICE_EMBEDDED", "perhaps", "'perhaps' is not one of 0, 1, false, true"),
        ("SLUICE_METRICS_PORT", "-1", "between 0 and 65535"),
        ("SLUICE_PORT", "70000", "between 0 and 65535"),
        ("SLUICE_REDIS", "localhost:6379", "redis://"),
        ("SLUICE_CLICKHOUSE", "http://", "http://"),
        ("SLUICE_INSTANCES", "0", "at least 1"),
    ],
)
def test_a_slip_is_named(name: str, value: str, words: str) -> None:
    with pytest.raises(Invalid, match=words) as caught:
        load_settings({name: value})
    assert caught.value.path.startswith("SLUICE_")


def test_values_are_read() -> None:
    given = {"SLUICE_KAFKA": "a:1,b:2", "SLUICE_EMBEDDED": "1", "SLUICE_HOME": "/x", "SLUICE_DRAIN_S": "5"}
    settings = load_settings(given)
    assert (settings.kafka_mode, settings.embedded) == ("external", True)
    assert (settings.home, settings.drain_s) == (Path("/x"), 5.0)
    assert settings.fetch_wait_ms < Settings().fetch_wait_ms


def test_a_password_is_not_repeated_in_an_error() -> None:
    with pytest.raises(Invalid) as caught:
        load_settings({"SLUICE_CLICKHOUSE": "ftp://user:secret@host"})
    assert "secret" not in str(caught.value)


def test_commands_find_the_running_pipeline(tmp_path: Path) -> None:
    running = Services("127.0.0.1:1", "redis://127.0.0.1:2/0", "http://127.0.0.1:3", embedded=True)
    (tmp_path / SERVICES_FILE).write_bytes(msgspec.json.encode(running))
    assert connected("kafka", settings=Settings(home=tmp_path)) == running
    elsewhere = Settings(home=tmp_path, redis="redis://10.0.0.1:6379/0", kafka="k:9092")
    found = connected("kafka", "redis", settings=elsewhere)
    assert (found.redis, found.kafka, found.embedded) == ("redis://10.0.0.1:6379/0", "k:9092", False)


@pytest.mark.parametrize(
    ("name", "address"), [("kafka", "k:9092"), ("redis", "redis://r:1/0"), ("clickhouse", "http://c:2")]
)
def test_a_command_needs_no_more_than_it_uses(tmp_path: Path, name: str, address: str) -> None:
    settings = Settings(**{name: address, "home": tmp_path})  # type: ignore[arg-type]
    assert getattr(connected(name, settings=settings), name) == address
    for other in {"kafka", "redis", "clickhouse"} - {name}:
        assert getattr(connected(name, settings=settings), other) == ""
        with pytest.raises(Invalid, match="sluice up") as caught:
            connected(name, other, settings=settings)
        assert caught.value.path == f"SLUICE_{other.upper()}"


def test_the_kind_of_a_broker_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="set it to HOST:PORT"):
        connected("kafka", settings=Settings(kafka="local", home=tmp_path))
