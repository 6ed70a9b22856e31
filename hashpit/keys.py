"""Keys on the client's side: making them, keeping them in files, and signing the login text.

A key file is JSON that only its owner may read: ``{"key": "k-...", "kind": "ed25519", "private_key": hex}``, or, for the second
kind, ``{"key": "k-...", "kind": "hmac", "secret": hex}``. Nothing here prints or logs a secret.
"""

import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from gateway.wire import LoginParams
from hashpit.errors import KeyFileError

SECRET_BYTES = 32
"""Length of an Ed25519 private key, and of the HMAC secrets the server makes."""
ID_CHARS_MAX = 64
"""Longest id that a server gives a key."""


def login_text(challenge: str, key: str, timestamp_us: int) -> bytes:
    """What a login signs: the server's challenge, the key's id and the time, one per line."""
    return f"hashpit login\n{challenge}\n{key}\n{timestamp_us}".encode("ascii")


class Key(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A key's id and its secret half (hex)."""

    key: str
    kind: Literal["ed25519", "hmac"]
    private_key: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        return f"Key({self.key!r}, {self.kind!r}, ...)"

    def sign(self, challenge: str, timestamp_us: int) -> LoginParams:
        """The parameters of a login that answers ``challenge`` at ``timestamp_us``."""
        text = login_text(challenge, self.key, timestamp_us)
        if self.kind == "ed25519":
            signature = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.private_key)).sign(text)
        else:
            signature = hmac.digest(bytes.fromhex(self.secret), text, hashlib.sha256)
        return LoginParams(key=self.key, timestamp_us=timestamp_us, signature=signature.hex())

    def save(self, path: Path) -> None:
        """Write the key file, readable by its owner only. An existing file is never overwritten."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror}") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self) + b"\n")


def generate() -> tuple[str, str]:
    """A new Ed25519 pair as (private_key, public_key) in hex; the server is told the public half only."""
    private = Ed25519PrivateKey.generate()
    return private.private_bytes_raw().hex(), private.public_key().public_bytes_raw().hex()


def load(path: Path) -> Key:
    """Read a key file. Raises KeyFileError when it is missing, readable by others, or not a key."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileError(f"{path} is not a key file: it is no regular file")
        key = msgspec.json.decode(path.read_bytes(), type=Key)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} is not a key file: {error}") from None
    half = key.private_key if key.kind == "ed25519" else key.secret
    try:
        usable = len(bytes.fromhex(half)) == SECRET_BYTES
    except ValueError:
        usable = False
    if not usable:
        field = "private_key" if key.kind == "ed25519" else "secret"
        raise KeyFileError(f"{path}: {field} is not {SECRET_BYTES} bytes in hex")
    if not (key.key.isascii() and 0 < len(key.key) <= ID_CHARS_MAX):
        raise KeyFileError(f"{path}: key is no id that a server gives: 1 to {ID_CHARS_MAX} ASCII characters")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):  # only now: nobody is told to change the mode of another file
        raise KeyFileError(f"{path} is open to other users; run: chmod 600 {path}")
    return key
