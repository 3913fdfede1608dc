"""A simulated LLM provider for the demo, tests and benchmarks: `python -m connectors.simulated --port N`.

It says that it is simulated: in its first line, in `x-simulated-provider` and in `system_fingerprint`.
"""

from connectors.simulated.calls import Call
from connectors.simulated.server import SimulatedProvider

__all__ = ["Call", "SimulatedProvider"]
