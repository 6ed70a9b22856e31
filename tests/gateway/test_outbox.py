"""Outboxes: in which order sockets are written to, what they share, and where a socket that is not read ends."""

import struct

import pytest

from gateway.codec import JSON, MSGPACK
from gateway.outbox import BACKLOG_BYTES_MAX, BINARY, HEADER_SIZES, PONG, TEXT, Outbox, Outgoing, framed
from tests.gateway.peer import payloads


class Wire:
    """A socket that keeps what is written; ``takes`` says whether the system takes it at once."""

    def __init__(self, written: list[tuple[str, bytes]], name: str) -> None:
        self._written = written
        self._name = name
        self.takes = True
        self.unread = 0
        self.overflows = 0

    def write(self, data: bytes) -> None:
        self._written.append((self._name, data))
        if not self.takes:
            self.unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def overflowed(self) -> None:
        self.overflows += 1


class Rig:
    """Some outboxes, and everything that was written in order."""

    def __init__(self) -> None:
        self.wakes = 0
        self.written: list[tuple[str, bytes]] = []
        self.outgoing = Outgoing(self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def outbox(self, name: str = "a") -> tuple[Wire, Outbox]:
        wire = Wire(self.written, name)
        return wire, Outbox(wire, wire, self.outgoing, JSON)

    def flush(self) -> list[tuple[str, bytes]]:
        self.outgoing.flush()
        written = self.written[:]
        self.written.clear()
        return written


def test_what_is_gathered_goes_out_in_one_write() -> None:
    rig = Rig()
    _, outbox = rig.outbox()
    outbox.put(b"one")
    outbox.send(b"2")
    outbox.put(b"three")
    assert rig.written == []
    assert outbox.unsent_bytes == outbox.measure() == 11
    assert rig.flush() == [("a", b"one\x81\x012three")]
    assert outbox.unsent_bytes == 0
    assert rig.flush() == []


def test_the_shell_is_woken_once_per_flush() -> None:
    rig = Rig()
    (_, first), (_, second) = rig.outbox("first"), rig.outbox("second")
    for _ in range(2):
        first.put(b"x")
        second.send(b"x")
        first.put(b"x")
        assert rig.wakes == 1
        assert len(rig.flush()) == 2
        rig.wakes = 0


def test_answers_leave_before_what_goes_to_many() -> None:
    rig = Rig()
    names = ["reader", "maker", "other reader", "taker"]
    outboxes = {name: rig.outbox(name)[1] for name in names}
    for outbox in outboxes.values():
        outbox.put(b"delta")
    outboxes["maker"].send(b"")
    outboxes["taker"].send(b"")
    assert [name for name, _ in rig.flush()] == ["maker", "taker", "reader", "other reader"]
    for outbox in outboxes.values():
        outbox.put(b"delta")
    assert [name for name, _ in rig.flush()] == names


def test_sockets_with_the_same_frames_share_their_bytes() -> None:
    rig = Rig()
    outboxes = [rig.outbox(str(number))[1] for number in range(5)]
    for outbox in outboxes:
        outbox.put(b"one")
    for outbox in outboxes[:3]:
        outbox.put(b"two")
    first, second, third, fourth, fifth = [block for _, block in rig.flush()]
    assert first == b"onetwo"
    assert first is second is third
    assert fourth == fifth == b"one"


def test_too_much_is_written_early() -> None:
    rig = Rig()
    _, outbox = rig.outbox()
    half = bytes(BACKLOG_BYTES_MAX // 2)
    outbox.put(half)
    outbox.put(half)
    assert rig.written == []
    outbox.put(b"x")
    assert [len(block) for _, block in rig.written] == [BACKLOG_BYTES_MAX + 1]
    assert outbox.unsent_bytes == 0


def test_a_socket_that_is_not_read_ends_past_the_bound() -> None:
    rig = Rig()
    wire, outbox = rig.outbox()
    _, other = rig.outbox("other")
    wire.takes = False
    outbox.put(bytes(BACKLOG_BYTES_MAX))
    assert len(rig.flush()) == 1
    assert wire.overflows == 0
    outbox.put(b"x")
    other.put(b"x")
    assert wire.overflows == 1, "at once, not at the next flush"
    assert ("other", b"x") in rig.flush()


def test_unsent_bytes_are_never_too_few() -> None:
    rig = Rig()
    wire, outbox = rig.outbox()
    wire.takes = False
    outbox.put(bytes(1_000))
    rig.flush()
    outbox.put(b"more")
    wire.unread = 10  # the peer reads
    assert outbox.unsent_bytes == 1_004
    assert outbox.measure() == 14
    assert outbox.unsent_bytes == 14


def test_a_closed_outbox_drops_everything() -> None:
    rig = Rig()
    wire, outbox = rig.outbox()
    _, other = rig.outbox("other")
    outbox.send(b"gathered")
    outbox.close()
    outbox.put(b"too late")
    outbox.send(b"too late")
    other.put(b"x")
    assert rig.flush() == [("other", b"x")]
    outbox.put(bytes(BACKLOG_BYTES_MAX + 1))
    assert rig.flush() == []
    assert (outbox.measure(), outbox.unsent_bytes, wire.overflows) == (0, 0, 0)


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x00"),
        (125, b"\x7d"),
        (126, b"\x7e\x00\x7e"),
        (HEADER_SIZES - 1, b"\x7e" + struct.pack(">H", HEADER_SIZES - 1)),
        (HEADER_SIZES, b"\x7e" + struct.pack(">H", HEADER_SIZES)),
        (65_535, b"\x7e\xff\xff"),
        (65_536, b"\x7f" + struct.pack(">Q", 65_536)),
        (2**20, b"\x7f" + struct.pack(">Q", 2**20)),
    ],
)
def test_frames_are_those_of_the_standard(size: int, head: bytes) -> None:
    payload = b"x" * size
    assert framed(TEXT, payload) == b"\x81" + head + payload
    assert framed(BINARY, payload) == b"\x82" + head + payload
    assert payloads(framed(PONG, payload) * 2) == [payload, payload]


def test_the_codec_says_which_frames() -> None:
    rig = Rig()
    for codec in (MSGPACK, JSON):
        wire = Wire(rig.written, codec.name)
        Outbox(wire, wire, rig.outgoing, codec).send(b"x")
    assert rig.flush() == [(MSGPACK.name, b"\x82\x01x"), (JSON.name, b"\x81\x01x")]
