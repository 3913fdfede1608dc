"""Apache Kafka on this machine without docker: one node, KRaft mode, on loopback.

The jars come from Maven by our own `pom.xml`, once; Java 17 or newer runs them.
"""

import base64
import fcntl
import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.local.process import Service, ServiceError, free_port, last_words, listening, tethered

log = logging.getLogger(__name__)

JAVA_AT_LEAST = 17
FETCH_S = 300.0
FORMAT_S = 60.0
ARCHIVE_S = 60.0
ARCHIVE = "classes.jsa"


class LocalKafka(Service):
    """An Apache Kafka broker. Its log stays under `home/data`; a broker killed with -9 comes back with it.

    About 240 MB of memory when idle, up to 600 MB under load.
    """

    name = "kafka"
    start_s = 60.0
    stop_s = 8.0

    def __init__(
        self,
        home: Path,
        files: Path,
        jars: Path,
        port: int | None = None,
        log_retention_s: float = 7 * 86400,
        retention_check_s: float = 300.0,
    ) -> None:
        """`files` holds pom.xml, server.properties and log4j2.xml; `jars` is a cache that homes may share.

        `log_retention_s` counts for topics without a retention of their own; every `retention_check_s` what is older
        is deleted.
        """
        super().__init__(home, port)
        self.files = files.absolute()
        self.jars = jars.absolute()
        self.log_retention_s = log_retention_s
        self.retention_check_s = retention_check_s
        self._controller_port = free_port()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return self.bootstrap

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def _classes(self) -> Path:
        return jar_folder(self.files / "pom.xml", self.jars)

    @property
    def _sharing(self) -> str:
        return sharing(self._classes)

    def prepare(self) -> None:
        """Fetch the jars, parse their classes, format the data directory, where that is still to be done; write the
        properties."""
        known = class_archive(self._classes)
        if not self._classes.is_dir() or (not known.exists() and os.access(self._classes, os.W_OK)):
            with _alone(self.jars):  # who starts several brokers would else do all that several times at once
                fetch_jars(self.files / "pom.xml", self.jars)
                if not known.exists():
                    self._archive_classes(known)
        self._lay_out()

    def _lay_out(self) -> None:
        if not self.data.is_dir():
            self._format()
        (self.home / "server.properties").write_text(self._properties(self.data))

    def command(self) -> list[str]:
        return [
            java() or "java",
            *("-Xms512m", "-Xmx512m", "-XX:+ExitOnOutOfMemoryError"),
            self._sharing,
            f"-Dlog4j2.configurationFile={self.files / 'log4j2.xml'}",
            *("-cp", f"{self._classes}/*"),
            *("kafka.Kafka", str(self.home / "server.properties")),
        ]

    def ready(self) -> bool:
        """Whether the broker is in its own metadata, and every partition it holds has a leader."""
        if not listening(self.port):
            return False
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            metadata = admin.list_topics(timeout=2.0)
        except KafkaException:
            return False
        partitions = [part for topic in metadata.topics.values() for part in topic.partitions.values()]
        return bool(metadata.brokers) and all(part.leader >= 0 for part in partitions)

    def _properties(self, data: Path) -> str:
        return Template((self.files / "server.properties").read_text()).substitute(
            PORT=self.port,
            CONTROLLER_PORT=self._controller_port,
            DATA=data,
            RETENTION_MS=round(self.log_retention_s * 1000),
            RETENTION_CHECK_MS=round(self.retention_check_s * 1000),
        )

    def _format(self) -> None:
        """Format beside the data directory, then rename: an interrupted format is not taken for a whole one."""
        with tempfile.TemporaryDirectory(prefix=".format-", dir=self.home) as folder:
            properties = Path(folder) / "server.properties"
            properties.write_text(self._properties(Path(folder) / "data"))
            tool = [java() or "java", "-XX:TieredStopAtLevel=1", sharing(self._classes), "-cp", f"{self._classes}/*"]
            run([*tool, "kafka.tools.StorageTool", "format", "-t", cluster_id(), "-c", str(properties)], FORMAT_S)
            (Path(folder) / "data").rename(self.data)

    def _archive_classes(self, known: Path) -> None:
        """Java starts without them too, only later: whatever goes wrong here is said, and not tried again."""
        with tempfile.TemporaryDirectory(prefix=".archive-", dir=self._classes, ignore_cleanup_errors=True) as folder:
            first = _Parsing(Path(folder), self.files, self.jars)
            try:
                first.start()
                first.stop(ARCHIVE_S)
                if not first.ended_by_itself:  # half an archive would crash Java
                    raise ServiceError(f"Java did not write down its classes within {ARCHIVE_S:g} s")
                (first.home / ARCHIVE).rename(known)
            except (ServiceError, OSError) as error:
                log.warning("brokers start a second later than they could; remove %s to try again: %s", known, error)
                known.touch()
            finally:
                first.kill()


class _Parsing(LocalKafka):
    """A broker that is started to be stopped: Java then writes down the classes it has parsed."""

    def prepare(self) -> None:
        self._lay_out()

    @property
    def _sharing(self) -> str:
        return f"-XX:ArchiveClassesAtExit={self.home / ARCHIVE}"

    @property
    def ended_by_itself(self) -> bool:
        """Whether Java did what it does at its end."""
        return self._process is not None and self._process.returncode == 128 + signal.SIGTERM


def available() -> str | None:
    """Why Kafka cannot run here, or None."""
    program = java()
    if program is None:
        return "no java"
    version = java_version(program)
    if version is None or version < JAVA_AT_LEAST:
        return f"java {version or 'of unknown version'} is older than {JAVA_AT_LEAST}"
    return None if shutil.which("mvn") else "no mvn (Maven)"


def java() -> str | None:
    """The java of JAVA_HOME, else of PATH, else None."""
    home = os.environ.get("JAVA_HOME")
    return (shutil.which("java", path=f"{home}/bin") if home else None) or shutil.which("java")


def java_version(program: str) -> int | None:
    """The major version, 8 for 1.8; None where it does not tell."""
    told = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    return int(version.group(1)) if version else None


def jar_folder(pom: Path, jars: Path) -> Path:
    """Where the jars of this pom are kept: by its content, so that a new version is not mixed with an old one."""
    return jars / hashlib.sha256(pom.read_bytes()).hexdigest()[:12]


def class_archive(classes: Path) -> Path:
    """Where the parsed classes of a broker of these jars are kept (JEP 350): a start in 1.2 s instead of 2.1, with half
    the CPU. Another Java cannot use them, and no other folder's; it would go without. Empty where that failed."""
    program = Path(java() or "java")
    made = program.stat().st_mtime_ns if program.exists() else 0
    return classes / f"classes-{made:x}.jsa"


def sharing(classes: Path) -> str:
    """The option by which Java begins with the classes that were parsed before, if there are any."""
    known = class_archive(classes)
    return f"-XX:SharedArchiveFile={known}" if known.exists() and known.stat().st_size else "-Xshare:auto"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Among all processes that name the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch_jars(pom: Path, jars: Path) -> Path:
    """The folder of the broker's jars (43 MB), fetched with Maven unless it is there already. One process at a time.

    Raises:
        ServiceError: Maven is missing or failed; nothing is left behind.
    """
    folder = jar_folder(pom, jars)
    if folder.is_dir():
        return folder
    jars.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=jars) as scratch:
        fetched = Path(scratch) / "jars"
        fetch = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        run([*fetch, f"-DoutputDirectory={fetched}"], FETCH_S)
        fetched.rename(folder)
    return folder


def run(command: list[str], timeout_s: float) -> None:
    """Run a tool to its end.

    Raises:
        ServiceError: it failed or took too long, with what it said last.
    """
    try:
        done = subprocess.run(
            tethered(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServiceError(f"{Path(command[0]).name} did not end within {timeout_s:g} s") from None
    if done.returncode:
        said = last_words(done.stdout.decode(errors="replace"))
        raise ServiceError(f"{Path(command[0]).name} failed with code {done.returncode}:\n{said}")


def cluster_id() -> str:
    """A random cluster id as Kafka writes it: 22 characters, not led by a hyphen (it would be read as an option)."""
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return text if not text.startswith("-") else cluster_id()
