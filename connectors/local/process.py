"""What the local services share: one program is started, awaited, stopped and killed.

A service's program writes to `<home>/<name>.log`, runs in a process group of its own (a Ctrl-C meant for us does not
reach it) and dies with the *thread* that called `start` (see `tether`): call it from a thread that lives as long as the
service is wanted, such as the main one.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections import deque
from pathlib import Path
from typing import ClassVar

TETHER = Path(__file__).with_name("tether.py")
CHECKOUT = Path(__file__).parents[2]
"""The directory that holds the package `connectors`, in a checkout and where it is installed."""

PORTS = range(20_000, 32_000)
"""Below the ports the kernel hands to clients: a client that knocks at a stopped service again and again would in the
end be given the service's own port to knock from, and keep it."""
MOST_CLAIMS = 100
_claims: deque[int] = deque()


class ServiceError(RuntimeError):
    """A local service could not be started. The message ends with the last lines of its log."""


class Service:
    """One program on loopback. A subclass says what to run and how to tell that it answers.

    `start` after `stop`, `kill` or the program's own death starts it again on the same port and directory.
    """

    name: ClassVar[str]
    start_s: ClassVar[float] = 30.0
    """How long `start` waits for an answer."""
    stop_s: ClassVar[float] = 5.0
    """How long `stop` waits after SIGTERM before it kills."""

    def __init__(self, home: Path, port: int | None = None) -> None:
        self.home = home.absolute()
        self.port = free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None
        self._logged = 0

    def command(self) -> list[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether the program answers; asked again and again while it starts."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """What clients are given."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What must be on disk before the program starts."""

    @property
    def log(self) -> Path:
        return self.home / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """The program's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> str:
        """Start the program, unless it runs, and return its address once it answers.

        Raises:
            ServiceError: the port is taken, the program ended, or it did not answer within `start_s`.
        """
        self.launch()
        return self.await_ready()

    def launch(self) -> None:
        """The first half of `start`, so that several services can come up at once.

        Raises:
            ServiceError: the port is taken.
        """
        if self.pid is not None:
            return
        if self.port and not is_free(self.port):
            raise ServiceError(f"{self.name}: port {self.port} is taken")
        self.home.mkdir(parents=True, exist_ok=True)
        self.prepare()
        self._spawn()

    def await_ready(self) -> str:
        """The other half: the address, once the program answers.

        Raises:
            ServiceError: the program ended, or it did not answer within `start_s`.
        """
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise
        return self.address

    def stop(self, timeout_s: float | None = None) -> None:
        """SIGTERM, then SIGKILL if it still runs after `timeout_s` (default `stop_s`). Nothing if it does not run."""
        if self._process is None or self.pid is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self.stop_s if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone, and with it its port and its locks."""
        if self._process is None:
            return
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def written(self) -> str:
        """What the program has written to its log since it was started last."""
        with self.log.open("rb") as log:
            log.seek(self._logged)
            return log.read().decode(errors="replace")

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._logged = log.tell()
            self._process = subprocess.Popen(
                tethered(self.command()),
                cwd=self.home,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self.start_s
        while not (self.ready() and self.pid):
            if self.pid is None:
                raise self._failure("ended")
            if time.monotonic() > deadline:
                raise self._failure(f"gave no answer within {self.start_s:g} s")
            time.sleep(0.02)

    def _failure(self, what: str) -> ServiceError:
        return ServiceError(f"{self.name} {what}; {self.log} ends:\n{last_words(self.written())}")


def tethered(command: list[str]) -> list[str]:
    """`command`, to be run so that it dies with the calling thread."""
    return [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command]


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours; -P keeps the working directory out of its imports."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """Our own environment, in which a module of ours is found also in a checkout that is not installed."""
    if str(CHECKOUT) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)  # found anyway, and PYTHONPATH would let installed modules hide Python's own
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def last_words(text: str) -> str:
    """The last lines of what a program said, without the frames of Java's stack traces: the cause stands above them."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\tat ")]
    return "\n".join(lines[-12:]) or "(nothing was written)"


def free_port() -> int:
    """A port on loopback that nothing listens on, that no client is given (`PORTS`), and that nobody else got here.

    Raises:
        ServiceError: none was found.
    """
    for port in random.SystemRandom().sample(PORTS, min(200, len(PORTS))):
        if is_free(port) and _claim(port):
            return port
    raise ServiceError(f"no free port in {PORTS.start}..{PORTS.stop - 1}")


def _claim(port: int) -> bool:
    """Whether it is ours among all who ask `free_port` on this machine: several services are given theirs before the
    first of them listens. On Linux by a name that goes with this process; elsewhere there is chance."""
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0sluice-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim.detach())
    if len(_claims) > MOST_CLAIMS:
        os.close(_claims.popleft())  # whoever was given it has long been listening
    return True


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def listening(port: int) -> bool:
    """Whether something accepts connections on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
