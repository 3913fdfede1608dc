"""The simulated provider as a local service."""

from connectors.local.process import Service, listening, python


class LocalSimulated(Service):
    """Scripted answers over OpenAI's wire format; no model is behind it."""

    name = "simulated"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return python("connectors.simulated", "--port", str(self.port))

    def ready(self) -> bool:
        return listening(self.port)
