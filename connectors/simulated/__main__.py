"""`python -m connectors.simulated`: the simulated provider as a process, until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal

import uvloop

from connectors.simulated.server import ABOUT, SimulatedProvider


async def serve(host: str, port: int) -> None:
    """Serve, and say where in one line once connections are accepted."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with SimulatedProvider(host, port) as provider:
        print(f"simulated provider ready: {provider.url}", flush=True)
        await stopped.wait()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m connectors.simulated",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="0 (default): any free one, printed when ready")
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
