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
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - names what an operator chose to listen on


async def main(context: Context) -> None:
    """Serve until asked to stop: then deliver the ends of open streams for a moment, and close.

    Raises:
        Exception: something that the edge cannot work without has died; the supervisor starts it again.
    """
    stopping = asyncio.create_task(_asked_to_stop().wait())
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


def _asked_to_stop() -> asyncio.Event:
    """Set at SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(asked.set)

    Stopping().listen(wake)
    return asked


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
