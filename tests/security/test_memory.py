"""What one connection may cost the server in memory, where only the inside can show it."""

import sys
from typing import Any, cast

import pytest

from gateway.codec import JSON
from gateway.server import Connection
from gateway.wire import FRAME_BYTES_MAX


class Fragment:
    """A continuation frame, as the websocket library hands it over."""

    fin = False

    def __init__(self, payload: bytes) -> None:
        self.payload_size = len(payload)
        self._payload = payload

    def get_payload_as_bytes(self) -> bytes:
        return self._payload


@pytest.mark.parametrize(("size", "count"), [(0, 100_000), (1, FRAME_BYTES_MAX), (2, FRAME_BYTES_MAX // 2)])
def test_a_message_in_crumbs_takes_no_more_memory_than_a_whole_one(size: int, count: int) -> None:
    """Whoever sends pings between endless empty fragments never ends the message and is never idle."""
    connection = Connection(cast(Any, None), JSON, "")
    connection._parts = bytearray()
    for number in range(count):
        connection._fragment(cast(Any, Fragment(number.to_bytes(4)[4 - size :])))
    assert len(connection._parts) == size * count
    assert sys.getsizeof(connection._parts) < 2 * FRAME_BYTES_MAX
