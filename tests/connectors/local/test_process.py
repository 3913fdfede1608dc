"""Starting, awaiting, stopping; that nothing outlives the one who started it."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.local import process
from connectors.local.process import CHECKOUT, PORTS, TETHER, Service, ServiceError, free_port

SERVES = "print('up', flush=True); signal.pause()"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


class Script(Service):
    """Runs a line of Python and is ready once it has printed `up`."""

    name = "script"

    def __init__(self, home: Path, code: str, start_s: float = 10.0) -> None:
        super().__init__(home)
        self.code = code
        self.start_s = start_s  # type: ignore[misc]

    def command(self) -> list[str]:
        return [sys.executable, "-c", f"import signal, sys; {self.code}"]

    def ready(self) -> bool:
        return "up\n" in self.written()

    @property
    def address(self) -> str:
        return f"somewhere:{self.port}"


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    service = Script(tmp_path / "new" / "home", SERVES)
    yield service
    service.kill()


def ended(pid: int, within_s: float = 5.0) -> bool:
    """Whether the process ends in time; waits for the event, as it is not our child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)


def test_start_stop_start(script: Script) -> None:
    assert script.pid is None
    address = script.start()
    first = script.pid
    assert first is not None
    assert script.start() == address, "a second start leaves a running program alone"
    assert script.pid == first
    script.stop()
    assert script.pid is None
    script.stop()
    assert script.start() == address
    assert script.pid not in (None, first)
    assert script.log.read_text() == "up\nup\n", "the log is kept over a restart"


def test_kill_and_death_are_noticed(script: Script) -> None:
    script.kill()
    script.start()
    script.kill()
    assert script.pid is None
    script.start()
    pid = script.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert script.pid is None
    script.start()
    assert script.pid not in (None, pid)


def test_runs_in_a_process_group_of_its_own(script: Script) -> None:
    script.start()
    assert script.pid is not None
    assert os.getpgid(script.pid) == script.pid != os.getpgid(0)


def test_a_deaf_program_is_killed_after_the_bound(tmp_path: Path) -> None:
    service = Script(tmp_path, DEAF)
    service.start()
    service.stop(timeout_s=0.1)
    assert service.pid is None


def test_a_program_that_ends_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    service = Script(tmp_path, "print('line of before'); sys.exit('no such disk')")
    with pytest.raises(ServiceError, match=r"script ended; .*script\.log ends:\nline of before\nno such disk"):
        service.start()


def test_only_the_log_of_this_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "script.log").write_text("up\nan old story\n")
    service = Script(tmp_path, "sys.exit(3)")
    with pytest.raises(ServiceError, match=r"\(nothing was written\)"):
        service.start()


def test_a_program_that_never_answers_is_given_up_and_killed(tmp_path: Path) -> None:
    service = Script(tmp_path, "print(1, flush=True); signal.pause()", start_s=0.3)
    with pytest.raises(ServiceError, match=r"gave no answer within 0\.3 s"):
        service.start()
    assert service.pid is None


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    class Missing(Script):
        def command(self) -> list[str]:
            return ["no-such-program"]

    with pytest.raises(ServiceError, match="cannot run no-such-program: No such file"):
        Missing(tmp_path, "").start()


def test_a_taken_port_is_said(script: Script) -> None:
    taken = pytest.raises(ServiceError, match=f"port {script.port} is taken")
    with socket.create_server(("127.0.0.1", script.port)), taken:
        script.start()


def test_a_port_is_given_to_one_of_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and in another process, before anybody listens there."""
    port = free_port()
    monkeypatch.setattr(process, "PORTS", range(port, port + 1))
    assert process.is_free(port)
    with pytest.raises(ServiceError, match="no free port"):
        free_port()
    other = f"from connectors.local import process; process.PORTS = range({port}, {port + 1}); process.free_port()"
    asked = subprocess.run([sys.executable, "-c", other], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert f"no free port in {port}..{port}" in asked.stderr


def test_free_ports_are_out_of_the_way_of_clients() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free_port() in PORTS
    assert max(PORTS) < lowest


STARTER = """
import sys
from pathlib import Path
from connectors.local.redis import LocalRedis
service = LocalRedis(Path(sys.argv[1]))
service.start()
print(service.pid, flush=True)
sys.stdin.read()
"""


def test_dies_with_a_killed_parent(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ended(pid)


def test_dies_with_the_thread_that_started_it(script: Script) -> None:
    """Not wanted but true of PR_SET_PDEATHSIG, and the reason for the word in the module's docstring."""
    pids: list[int | None] = []

    def start() -> None:
        script.start()
        pids.append(script.pid)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert pids[0] is not None
    assert ended(pids[0])


def test_the_tether_refuses_a_parent_that_is_gone() -> None:
    told = subprocess.run(
        [sys.executable, str(TETHER), "1", "true"], capture_output=True, text=True, check=False, timeout=10
    )
    assert told.returncode == 1
    assert "parent 1 is gone" in told.stderr
