"""An edge in a thread of its own, with its own loop, so that any client can be used against it."""

import asyncio
import threading
from typing import Any

import uvloop

from connectors.edge.app import Edge, EdgeConfig
from connectors.edge.metrics import MetricsServer
from connectors.edge.server import listen, make_server


class RunningEdge:
    """Serves until closed; `edge` may be looked at, and `call` runs something in its loop."""

    def __init__(self, config: EdgeConfig, metrics: bool = False) -> None:
        self.edge: Edge
        self.url = ""
        self.metrics = ""
        self.error: BaseException | None = None
        self._config = config
        self._with_metrics = metrics
        self._loop = uvloop.new_event_loop()
        self._up = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name=config.member)
        self._thread.start()
        assert self._up.wait(20)
        if self.error is not None:
            self._thread.join()
            raise self.error

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1) + "/v1/ws"

    def call(self, work: Any) -> Any:
        """What a coroutine gives, run in the edge's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        if self.error is not None:
            raise self.error

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:
                self.error = error
            finally:
                self._up.set()

    async def _serve(self) -> None:
        self.edge = Edge(self._config)
        await self.edge.start()
        listener = listen("127.0.0.1", 0)
        server = make_server(self.edge.app)
        metrics = MetricsServer(self.edge.collector(), 0) if self._with_metrics else None
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.metrics = metrics.url if metrics else ""
        tasks = [asyncio.create_task(server.serve(sockets=[listener])), asyncio.create_task(self.edge.work())]
        stop = asyncio.create_task(self._stop.wait())
        self._up.set()
        done, _ = await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
        await self.edge.drain(0.2)
        server.stop()
        await asyncio.wait(tasks[:1])
        if metrics:
            await asyncio.to_thread(metrics.close)
        for task in (tasks[1], stop):
            task.cancel()
        await asyncio.gather(tasks[1], stop, return_exceptions=True)
        await self.edge.stop()
        for task in done - {stop}:
            task.result()
