"""The far end of an outbox, without a socket."""

from collections.abc import Callable

from gateway.codec import Codec
from gateway.outbox import Outbox, Outgoing


class Peer:
    """Reads what is put into its ``outbox`` at once: ``receive`` gets every message. It claims to leave ``unread_bytes``."""

    def __init__(self, codec: Codec, receive: Callable[[bytes], None], overflowed: Callable[[], None] = lambda: None) -> None:
        self._receive = receive
        self.overflowed = overflowed
        self._unread_bytes = 0
        outgoing = Outgoing(lambda: outgoing.flush())
        self.outbox = Outbox(self, self, outgoing, codec)

    @property
    def unread_bytes(self) -> int:
        return self._unread_bytes

    @unread_bytes.setter
    def unread_bytes(self, count: int) -> None:
        self._unread_bytes = count
        self.outbox.measure()

    def write(self, data: bytes) -> None:
        for payload in payloads(data):
            self._receive(payload)

    def get_write_buffer_size(self) -> int:
        return self._unread_bytes


def payloads(block: bytes) -> list[bytes]:
    """The payloads of a server's frames."""
    found = []
    while block:
        size, start = block[1], 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(block[2:start])
        found.append(block[start : start + size])
        block = block[start + size :]
    return found
