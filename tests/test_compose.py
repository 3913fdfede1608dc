"""compose.yaml describes the same system: no docker is needed to hold it to the code."""

from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest
import yaml

from connectors.simulated.__main__ import main as simulated_main
from streams import topology
from streams.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]

SCHEMA = {
    "type": "object",
    "required": ["name", "services"],
    "properties": {
        "services": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "anyOf": [{"required": ["image"]}, {"required": ["build"]}],
                "properties": {
                    "image": {"type": "string", "pattern": "^[a-z0-9/-]+:[a-z0-9.-]+$"},
                    "build": {"type": "object", "required": ["context", "dockerfile"]},
                    "command": {"type": "array", "items": {"type": "string"}},
                    "environment": {"type": "object"},
                    "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
                    "volumes": {"type": "array", "items": {"type": "string"}},
                    "depends_on": {"type": "object"},
                    "healthcheck": {"type": "object", "required": ["test"]},
                    "restart": {"enum": ["unless-stopped", "always", "no"]},
                },
                "additionalProperties": False,
            },
        },
        "volumes": {"type": "object"},
    },
    "patternProperties": {"^x-": {}},
}
"""The parts of the Compose specification that the file uses; anything else in it is a slip."""


@pytest.fixture(scope="module")
def services() -> dict:
    data = yaml.safe_load((ROOT / "compose" / "compose.yaml").read_text())
    jsonschema.validate(data, SCHEMA)
    return data["services"]


def test_control_the_schema_can_fail() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "services": {"a": {"imagine": "b"}}}, SCHEMA)


def test_every_stage_is_a_service_that_runs_it(services: dict) -> None:
    stages = set(topology.load().stages)
    assert stages <= set(services)
    for stage in stages:
        assert services[stage]["command"] == ["sluice", "run", stage]
        assert services[stage]["depends_on"]["setup"]["condition"] == "service_completed_successfully"


def test_the_environment_is_what_settings_know(services: dict) -> None:
    known = {f"SLUICE_{item.name.upper()}" for item in fields(Settings)}
    for name in [*topology.load().stages, "setup"]:
        environment = services[name]["environment"]
        assert set(environment) <= known
        settings = load_settings(environment)
        assert settings.kafka_mode == "external"


def test_addresses_name_services_and_their_ports(services: dict) -> None:
    settings = load_settings(services["edge"]["environment"])
    assert settings.kafka == "kafka:9092"
    assert services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{settings.kafka}"
    for address in (settings.redis, settings.clickhouse, settings.simulated):
        host = address.split("//")[1].rpartition("@")[2].split(":")[0]
        assert host in services
    assert services["simulated"]["command"][-1] == settings.simulated.rpartition(":")[2]
    assert callable(simulated_main)


def test_only_loopback_is_published(services: dict) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"edge": ["127.0.0.1:8080:8080"]}
    assert services["edge"]["environment"]["SLUICE_PORT"] == "8080"


def test_the_image_holds_what_the_code_needs() -> None:
    copied = (ROOT / "compose" / "Dockerfile").read_text()
    for name in ("processors", "connectors", "streams", "topics.yaml", "policy.yaml", "requirements.lock"):
        assert name in copied
        assert (ROOT / name).exists()
