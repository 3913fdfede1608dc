"""ClickHouse on a disk that is soon full."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from connectors.local.clickhouse import LocalClickHouse


class SmallDisk(LocalClickHouse):
    """The same server with what it had, on a disk of its own that is soon full: a tmpfs in a mount namespace."""

    SIZE = 256 << 20

    @property
    def disk(self) -> Path:
        return self.home / "small"

    @property
    def seen(self) -> Path:
        """The disk, as it is seen from outside its namespace."""
        return Path(f"/proc/{self.pid}/root{self.disk}")

    def command(self) -> list[str]:
        served = [str(self.disk) if word == str(self.data) else word for word in super().command()]
        mount = f"mount -t tmpfs -o size={self.SIZE} tmpfs '{self.disk}' && cp -a '{self.data}/.' '{self.disk}'"
        return ["unshare", "-Urm", "sh", "-ec", f'mkdir -p "{self.disk}"; {mount}; exec "$@"', "sh", *served]

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Nothing is left of the disk; what the server itself gives back is taken, too."""
        over = threading.Event()
        filling = threading.Thread(target=self._fill, args=(over,))
        filling.start()
        try:
            while os.statvfs(self.seen).f_bavail:
                time.sleep(0.01)
            yield
        finally:
            over.set()
            filling.join()
            (self.seen / "ballast").unlink()

    def _fill(self, over: threading.Event) -> None:
        with (self.seen / "ballast").open("wb", buffering=0) as ballast:
            while not over.wait(0.01):
                with suppress(OSError):
                    while True:
                        ballast.write(bytes(1 << 12))
