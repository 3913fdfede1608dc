"""aiokafka under uvloop, whose transports do not take a write after their end."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest

from connectors.kafka import follow


async def send_after_the_end(send: Callable[..., Any]) -> AIOKafkaConnection:
    """Write a request to a connection whose transport is closed and whose reading has not noticed it yet."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    connection = AIOKafkaConnection(host, port)
    connection._reader, connection._writer = await asyncio.open_connection(host, port)
    connection._read_task = asyncio.get_running_loop().create_future()
    connection._writer.transport.abort()
    await connection._reader.read()  # ends when the connection is lost
    server.close()
    await server.wait_closed()
    send(connection, ApiVersionRequest())
    return connection


def test_a_write_after_the_end_is_an_error_of_the_connection() -> None:
    with pytest.raises(KafkaConnectionError, match="closed"):
        uvloop.run(send_after_the_end(AIOKafkaConnection.send))


def test_the_control_aiokafka_alone_raises_what_its_reader_dies_of() -> None:
    """Once this fails, the mend in `follow` can go."""
    with pytest.raises(RuntimeError, match="closed") as raised:
        uvloop.run(send_after_the_end(follow._send))
    assert not isinstance(raised.value, KafkaConnectionError)
