"""ClickHouse on this machine without docker: chDB in a process of its own, behind ClickHouse's HTTP interface."""

import http.client
from pathlib import Path

from connectors.local.process import Service, python


class LocalClickHouse(Service):
    """The server of `clickhouse_server`. What is written is kept under `home/data`, also when it is killed.

    About 300 MB of memory when idle; it bounds itself to 2 GiB.
    """

    name = "clickhouse"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.home / "data"

    def command(self) -> list[str]:
        return python("connectors.local.clickhouse_server", "--path", str(self.data), "--port", str(self.port))

    def ready(self) -> bool:
        """Whether /ping is answered: the engine is open by then."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
