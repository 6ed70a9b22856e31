"""A crowd of websockets from one thread: connect all at once, ask for the upgrade, and see what each is told."""

import selectors
import socket
from time import monotonic
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from tests.hostile.sockets import handshake

QUIET_S: Final = 12.0
"""Sockets that hear nothing for so long are left hanging: longer than the server gives a handshake, and than the system's
first repeats of a connect."""


class Told(NamedTuple):
    """What became of the sockets."""

    greeted: int
    refused: int
    """Answered with an HTTP status other than 101, or closed, or reset."""
    hanging: int
    """Heard nothing."""


def flood(url: str, count: int) -> Told:
    """Open ``count`` sockets at once; those that are greeted stay until everyone has heard something, and go without a word."""
    parts = urlsplit(url)
    request = handshake(parts.netloc)
    greeted = refused = 0
    selector = selectors.DefaultSelector()
    sockets: list[socket.socket] = []
    waiting: dict[socket.socket, bytes] = {}
    try:
        for _ in range(count):
            fresh = socket.socket()
            fresh.setblocking(False)
            fresh.connect_ex((parts.hostname, parts.port))
            selector.register(fresh, selectors.EVENT_WRITE)
            sockets.append(fresh)
            waiting[fresh] = b""
        heard = monotonic()
        while waiting and monotonic() - heard < QUIET_S:
            for key, events in selector.select(0.5):
                raw = key.fileobj
                assert isinstance(raw, socket.socket)
                try:
                    if events & selectors.EVENT_WRITE:
                        raw.send(request)
                        selector.modify(raw, selectors.EVENT_READ)
                        continue
                    data = raw.recv(4_096)
                except OSError:
                    data = b""
                heard = monotonic()
                waiting[raw] += data
                answer = waiting[raw]
                is_over = not data or (answer.startswith(b"HTTP/1.1 ") and answer[9:12] != b"101")
                if is_over or b'"hello"' in answer:
                    greeted += not is_over
                    refused += is_over
                    del waiting[raw]
                    selector.unregister(raw)
        return Told(greeted, refused, len(waiting))
    finally:
        selector.close()
        for one in sockets:
            one.close()
