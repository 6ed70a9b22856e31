"""Who sent a request: the signature over its raw bytes, its time, and a nonce that is good once.

The signed text is ``key | time | nonce | | organisation | | METHOD | path | query [| body]`` with a zero byte for every bar,
path and query as they were sent. Time is a parameter.
"""

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.ratelimit import MS_NS

WINDOW_NS: Final = 300 * 1_000 * MS_NS
"""How far X-Time may be from the server's clock, either way."""
NONCE_CHARS_MAX: Final = 36
TEXT_CHARS_MAX: Final = 128
"""The longest header that is looked at."""
NONCES_PER_KEY_MAX: Final = 131_072
"""Nonces of one key that are remembered; a key that sends more within two windows is told to wait."""
NONCES_MAX: Final = 262_144
"""Nonces of all keys that are remembered, but for what every key has free."""
NONCES_FREE: Final = 1_000
"""So many a key may have remembered however many the others have: two busy keys lock nobody out."""


class Signed(NamedTuple):
    """The headers of a signed request."""

    key: str
    signature: str
    time_ms: int
    nonce: str
    organization: str


def signed_headers(headers: Mapping[str, str]) -> Signed:
    """The signature's headers; names in small letters. Raises ValueError with a sentence for the client."""
    found = {name: headers.get(name, "") for name in ("x-auth", "x-time", "x-nonce", "x-organization-id")}
    for name, value in found.items():
        if not value:
            raise ValueError(f"the header {name} is missing")
        if len(value) > TEXT_CHARS_MAX:
            raise ValueError(f"the header {name} has more than {TEXT_CHARS_MAX} characters")
    key, colon, signature = found["x-auth"].partition(":")
    if not colon:
        raise ValueError("the header x-auth is key:signature")
    time = found["x-time"]
    if not (time.isascii() and time.isdigit() and len(time) <= 16):
        raise ValueError("the header x-time is the time in milliseconds since 1970")
    if len(found["x-nonce"]) > NONCE_CHARS_MAX:
        raise ValueError(f"the header x-nonce has at most {NONCE_CHARS_MAX} characters")
    return Signed(key, signature, int(time), found["x-nonce"], found["x-organization-id"])


def message(signed: Signed, time: str, method: str, path: str, query: str, body: bytes) -> bytes:
    """What is signed. ``time`` is X-Time as it was sent."""
    fields = (signed.key, time, signed.nonce, "", signed.organization, "", method.upper(), path, query)
    text = "\0".join(fields).encode("latin-1", "replace")
    return text + b"\0" + body if body else text


class Nonces:
    """Nonces that were used. One is remembered until no time that it may be sent with is inside the window any more.

    What was used before this process started is not known here, so a time from before ``start_ns`` is no good.
    """

    def __init__(
        self,
        start_ns: int,
        per_key_max: int = NONCES_PER_KEY_MAX,
        all_max: int = NONCES_MAX,
        window_ns: int = WINDOW_NS,
        free: int = NONCES_FREE,
    ) -> None:
        self._start_ms = start_ns // MS_NS
        self._free = free
        self._per_key_max = per_key_max
        self._all_max = all_max
        self._window_ns = window_ns
        self._count = 0
        # By key, oldest first: until when each is remembered.
        self._used: dict[str, dict[bytes, int]] = {}

    def __len__(self) -> int:
        return self._count

    def is_timely(self, time_ms: int, now_ns: int) -> bool:
        """Whether X-Time is near enough to the clock."""
        return time_ms >= self._start_ms and abs(time_ms * MS_NS - now_ns) <= self._window_ns

    def is_full(self, key: str, now_ns: int) -> bool:
        """Whether no more can be remembered for the key, so that none may be used."""
        self._forget(key, now_ns)
        if self._count >= self._all_max:
            for other in [*self._used]:
                self._forget(other, now_ns)
        used = len(self._used.get(key, ()))
        return used >= self._per_key_max or (self._count >= self._all_max and used >= self._free)

    def use(self, key: str, nonce: str, now_ns: int) -> bool:
        """Use a nonce up; False when it was. To be called for a good signature only, and not when it is full."""
        used = self._used.setdefault(key, {})
        digest = hashlib.blake2b(nonce.encode("latin-1", "replace"), digest_size=16).digest()
        if used.get(digest, 0) >= now_ns:
            return False
        if digest not in used:
            self._count += 1
        used[digest] = now_ns + 2 * self._window_ns
        return True

    def _forget(self, key: str, now_ns: int) -> None:
        used = self._used.get(key)
        if used is None:
            return
        while used:
            oldest = next(iter(used))
            if used[oldest] >= now_ns:
                break
            del used[oldest]
            self._count -= 1
        if not used:
            del self._used[key]
