"""A provider's own certificate authority: trusted for it, and for nobody else."""

import asyncio
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from processors.policy import Provider
from tests.connectors.providers.conftest import UNTIL_CLOSED, Caller, event


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    home = tmp_path_factory.mktemp("tls")
    cert, key = home / "cert.pem", home / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", *kind, *name, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True
    )
    return cert, key


class TlsServer:
    """Sends one delta over TLS, then waits until the client has gone."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        self.gone = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(UNTIL_CLOSED + event("Hi"))
            while await reader.read(65_536):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            if not self.gone.done():
                self.gone.set_result(time.monotonic())


async def test_its_own_authority_and_a_prompt_close(call: Caller, certificate: tuple[Path, Path]) -> None:
    server = TlsServer(certificate)
    async with server as url:
        provider = Provider(base_url=url, ca_file=str(certificate[0]))
        items = call.items(url, provider=provider)
        first = await anext(items)
        assert isinstance(first, list)
        assert first[0].text == "Hi"
        closed = time.monotonic()
        await items.aclose()
        assert await asyncio.wait_for(server.gone, 2) - closed < 0.1


async def test_nobody_else_is_trusted(call: Caller, certificate: tuple[Path, Path]) -> None:
    async with TlsServer(certificate) as url:
        _, ended = await call(url)
        assert ended.error is not None
        assert ended.error.kind == "connect"
        assert "TLS" in ended.error.message


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_is_none(call: Caller, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    _, ended = await call("https://127.0.0.1:9/v1", provider=Provider(base_url="x", ca_file=str(path)))
    assert ended.error is not None
    assert (ended.error.kind, str(path) in ended.error.message) == ("connect", True)
