"""The edge: HTTP and WebSocket in front, the log behind."""

import asyncio
import logging
import os
from typing import Any

from connectors.edge.app import Edge, EdgeConfig
from connectors.edge.metrics import MetricsServer
from connectors.edge.server import listen, make_server
from streams.runtime import Context, Stopping

log = logging.getLogger(__name__)

CLOSE_S = 0.5
"""How long the last records may take to be acknowledged when the process ends."""
SUCCESSOR_S, LOOK_S = 5.0, 0.02
"""How long whoever reads here may go on while a successor starts, and how often is looked whether it works."""
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - names what an operator chose to listen on


async def main(context: Context) -> None:
    """Serve until asked to stop: then deliver the ends of open streams for a moment, and close. At SIGTERM, who is
    connected goes on until a successor works, so that a restart costs a reader no more than coming back.

    Raises:
        Exception: something that the edge cannot work without has died; the supervisor starts it again.
    """
    signals, asked = _signals()
    stopping = asyncio.create_task(asked.wait())
    edge = Edge(config_of(context))
    await _started(edge, stopping)
    listener = listen(context.settings.host, context.settings.port)
    metrics = MetricsServer(edge.collector(), context.settings.metrics_port)
    server = make_server(edge.app)
    working = asyncio.create_task(edge.work())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    context.announce_ready(url=url_of(context.settings.host, listener.getsockname()[1]), metrics=metrics.url)
    await asyncio.wait({working, serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    broken = [task for task in (working, serving) if task.done()]
    for task in broken:
        log.critical("the edge cannot go on", exc_info=task.exception())
    if not broken and not signals.now:
        edge.take_nothing_new()  # a successor's start ends what plain HTTP has asked of this one
        await asyncio.to_thread(metrics.close)
        server.refuse()
        context.announce_ready(draining=True)
        await _succeeded(context, edge, signals)
    if not broken:
        await edge.drain()
    server.stop()
    await asyncio.gather(asyncio.to_thread(metrics.close), asyncio.wait({serving}))
    working.cancel()
    stopping.cancel()
    await asyncio.wait({working, stopping})
    await _let_go(edge, failed=bool(broken))
    for task in broken:
        task.result()  # raises what ended it
        raise RuntimeError("the server ended by itself")


def config_of(context: Context) -> EdgeConfig:
    """What the settings say of this edge."""
    settings = context.settings
    return EdgeConfig(
        member=context.member,
        instance=settings.instance,
        instances=settings.instances,
        kafka=settings.kafka,
        redis=settings.redis,
        embedded=settings.embedded,
    )


def url_of(host: str, port: int) -> str:
    """Where clients on this machine find the edge."""
    return f"http://{ANYWHERE.get(host, host)}:{port}"


def _signals() -> tuple[Stopping, asyncio.Event]:
    """What was asked, and an event that is set once it is."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(asked.set)

    return Stopping().listen(wake), asked


async def _succeeded(context: Context, edge: Edge, signals: Stopping) -> None:
    """Wait until a successor works or nobody is connected, but not for long: without a supervisor none comes."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + SUCCESSOR_S
    while edge.open and not (context.succeeded or signals.now):
        if loop.time() > give_up:
            log.warning("no successor works after %g s; ending", SUCCESSOR_S)
            return
        await asyncio.sleep(LOOK_S)


async def _started(edge: Edge, stopping: "asyncio.Task[Any]") -> None:
    """Wait for the start; who is asked to stop before it ends has nothing to close, and may wait for no broker."""
    starting = asyncio.create_task(edge.start())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        os._exit(0)
    starting.result()


async def _let_go(edge: Edge, failed: bool) -> None:
    """Close the clients; a broker that does not answer must not keep the process."""
    closing = asyncio.create_task(edge.stop())
    done, _ = await asyncio.wait({closing}, timeout=CLOSE_S)
    for task in done:
        if not task.cancelled() and task.exception() is not None:
            log.error("closing: %r", task.exception())
    if not done:
        log.warning("the log does not acknowledge the last records; ending without them")
        os._exit(1 if failed else 0)
