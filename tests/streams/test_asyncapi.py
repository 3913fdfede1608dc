"""docs/asyncapi.yaml is what the sources say, is valid, and describes what is really on the wire."""

import hashlib
import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml

from processors import events
from processors.codec import encode
from streams import asyncapi
from streams.topology import load

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "asyncapi.yaml"
NODE = ROOT / "tests" / "node"
GOLDEN = ROOT / "tests" / "golden" / "v1"


@pytest.fixture(scope="module")
def document():
    return asyncapi.document(load())


def validator(document, name: str) -> jsonschema.Draft7Validator:
    reference = {"$ref": f"#/components/schemas/{name}"}
    return jsonschema.Draft7Validator(reference | {"components": document["components"]})


def test_the_committed_document_is_the_generated_one():
    committed = COMMITTED.read_text(encoding="utf-8")
    assert committed == asyncapi.render(load()), (
        "docs/asyncapi.yaml is out of date: run `sluice topics describe --write docs`"
    )


def test_it_reads_back_as_it_was_made(document):
    assert yaml.safe_load(asyncapi.render(load())) == json.loads(json.dumps(document))


def test_every_topic_is_a_channel_with_its_kafka_settings(document):
    journal = document["channels"]["journal"]
    assert list(journal["messages"])[:2] == ["Decision", "RunStarted"]
    assert journal["bindings"]["kafka"] == {
        "topic": "journal",
        "partitions": 4,
        "topicConfiguration": {
            "cleanup.policy": ["delete"],
            "retention.ms": 86_400_000,
            "max.message.bytes": 4_194_304,
            "message.timestamp.type": "LogAppendTime",
        },
        "bindingVersion": "0.5.0",
    }
    assert set(document["channels"]) == set(load().topics)


def test_every_stage_has_its_operations(document):
    operations = document["operations"]
    assert operations["guard.send.tokens"]["action"] == "send"
    assert operations["guard.receive.journal"]["bindings"]["kafka"]["groupId"] == {"type": "string", "enum": ["guard"]}
    assert "bindings" not in operations["guard.receive.policies"]
    assert "bindings" not in operations["edge.receive.tokens"]
    expected = sum(len(s.reads) + len(s.holds) + len(s.writes) for s in load().stages.values())
    assert len(operations) == expected


def test_descriptions_come_from_the_source(document):
    decision = document["components"]["schemas"]["Decision"]
    assert decision["description"].startswith("Admission's word on one attempt.")
    assert decision["properties"]["flags"]["description"].startswith("Ids of rules")
    assert decision["properties"]["submitted"]["anyOf"][0] == {"type": "string", "format": "date-time"}
    assert document["components"]["messages"]["Outcome"]["summary"] == "The guard's word on how an attempt went."


def test_dead_letters_are_bytes_with_headers(document):
    message = document["components"]["messages"]["dead-letters"]
    assert "dead-letter-error" in message["headers"]["properties"]
    assert "payload" not in message


def test_every_schema_is_one(document):
    for name in document["components"]["schemas"]:
        jsonschema.Draft7Validator.check_schema(document["components"]["schemas"][name])


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden_events_fit_their_schemas(document, path):
    """A golden file is named after its event's tag; a request and its cancel have none."""
    names = {
        schema.get("properties", {}).get("type", {}).get("enum", [None])[0]: name
        for name, schema in document["components"]["schemas"].items()
    }
    value = json.loads(path.read_bytes())
    name = names[value["type"]] if "type" in value else "Envelope" if "cancel" in value else "Request"
    validator(document, name).validate(value)


def test_what_we_write_fits_its_schema(document):
    verdict = events.Verdict(
        id="i", tenant="t", run="r", n=0, rule="x", category="c", severity=1, policy="p", source="answer", span=(3, 9)
    )
    check = validator(document, "Verdict")
    check.validate(json.loads(encode(verdict)))
    broken = msgspec.to_builtins(verdict) | {"span": [1, 2, 3]}
    assert [error.message for error in check.iter_errors(broken)] == ["[1, 2, 3] is too long"]


@pytest.fixture(scope="module")
def parser(request) -> Path:
    """A folder in pytest's cache with @asyncapi/parser installed, made anew when the lock file changes."""
    content = b"".join((NODE / name).read_bytes() for name in ("package-lock.json", "validate.mjs"))
    folder = request.config.cache.mkdir("asyncapi") / hashlib.sha256(content).hexdigest()[:16]
    if not folder.is_dir():
        draft = folder.with_suffix(f".{os.getpid()}")
        shutil.copytree(NODE, draft, ignore=shutil.ignore_patterns("node_modules"))
        subprocess.run(["npm", "ci", "--prefix", draft], check=True, cwd=draft, timeout=110)
        with suppress(OSError):  # another run was quicker
            draft.rename(folder)
    return folder


def parse(parser: Path, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", "validate.mjs", os.fspath(file)], cwd=parser, capture_output=True, text=True, timeout=60
    )


@pytest.mark.node
class TestParser:
    """AsyncAPI's own parser."""

    def test_it_accepts_the_document(self, parser):
        done = parse(parser, COMMITTED)
        assert done.returncode == 0, done.stdout + done.stderr
        findings = [line for line in done.stdout.splitlines() if line.startswith(("error", "warning"))]
        assert not findings
        assert f"ok: {len(load().topics)} channels" in done.stdout

    def test_it_refuses_a_broken_one(self, parser, tmp_path, document):
        broken = json.loads(json.dumps(document))
        broken["channels"]["journal"]["bindings"]["kafka"]["partitions"] = 0
        file = tmp_path / "asyncapi.yaml"
        file.write_text(yaml.safe_dump(broken))
        done = parse(parser, file)
        assert done.returncode == 1
        assert "partitions" in done.stdout


def test_the_lock_file_names_no_registry():
    lock = (NODE / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity"' in lock
