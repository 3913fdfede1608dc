"""The wheel holds what runs, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    [built] = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_its_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}
    assert tops == {"processors", "connectors", "streams"}
    for package in tops:
        assert f"{package}/py.typed" in wheel.namelist()


def test_what_is_no_code_travels_too(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for resource in ("topics.yaml", "policy.yaml", "kafka/pom.xml", "kafka/server.properties"):
        assert f"streams/resources/{resource}" in names
    migrations = {f"connectors/clickhouse/migrations/{p.name}" for p in (ROOT / "connectors").rglob("migrations/*.sql")}
    assert migrations
    assert migrations <= names


def test_it_runs_outside_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "from streams import topology; print(len(topology.load().stages))"
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == "7"
