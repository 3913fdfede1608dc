"""The simulated provider as a process of its own."""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "connectors.simulated"]


def test_it_says_where_it_is_and_ends_when_told() -> None:
    with subprocess.Popen([*COMMAND, "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("simulated provider ready: http://127.0.0.1:")
            with urllib.request.urlopen(line.split()[-1] + "/models", timeout=5) as response:
                assert response.headers["x-simulated-provider"] == "sluice"
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0
            assert process.stdout.read() == ""
        finally:
            process.kill()


def test_help_says_that_it_is_simulated() -> None:
    said = subprocess.run([*COMMAND, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "no model behind it" in said
    assert "numbers?n=64&pace_ms=20" in said
