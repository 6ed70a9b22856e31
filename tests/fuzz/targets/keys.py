"""Any key file is read, or refused with a sentence; any login is of the key that signed it, or of nobody.

The same bytes are the server's ``keys.json``, a client's key file, and the parts of a login.
"""

import os
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.auth import KEYS_FILE, MASTER_FILE, PERMISSIONS, KeyStore, KeyStoreError
from gateway.codec import CODECS
from gateway.wire import LoginParams
from hashpit.errors import KeyFileError
from hashpit.keys import Key, load
from tests.fuzz.runner import scratch

BYTES_MAX = 4_096
WORDS = (
    *(
        f'"{name}"'.encode()
        for name in ("version", "keys", "key", "account", "kind", "permissions", "public_key", "sealed_secret")
    ),
    *(
        f'"{name}"'.encode()
        for name in ("ip_list", "label", "created_us", "ed25519", "hmac", "private_key", "secret", *PERMISSIONS)
    ),
    *(
        b'"10.0.0.0/8"',
        b'"2001:db8::/32"',
        b'"0.0.0.0/0"',
        b'"::/0"',
        b'"10.0.0.1/8"',
        b'"fe80::1%eth0"',
        b'"\\ud800"',
        b"\xc3\xa9",
    ),
    *(b"00" * 32, b"ff" * 32, b"gAAAAA"),
)
ADDRESSES: Final = ("10.0.0.1", "::1", "2001:db8::1", "::ffff:10.0.0.1", "", "unknown", "fe80::1%eth0", "10.0.0.1:80", "\u0661")
_HOME: Final = scratch()
MASTER: Final = b"c2hhMjU2IG9mIG5vdGhpbmcgaW4gcGFydGljdWxhciE="


@cache
def home() -> Path:
    (_HOME / MASTER_FILE).write_bytes(MASTER)
    for name in (MASTER_FILE, KEYS_FILE, "client.key"):
        (_HOME / name).touch()
        os.chmod(_HOME / name, 0o600)
    return _HOME


def one(data: bytes) -> None:
    (home() / KEYS_FILE).write_bytes(data)
    (home() / "client.key").write_bytes(data)
    client = _client()
    server = _server()
    if server is not None:
        for key in server.all():
            for address in ADDRESSES:
                assert isinstance(key.allows(address), bool)
            if key.stored.kind == "hmac":
                signed = Key(key.key_id, "hmac", secret=key._secret.hex()).sign("challenge", 1)
                assert server.verify(key.key_id, "challenge", 1, signed.signature) is key
                assert server.verify(key.key_id, "other", 1, signed.signature) is None
            assert server.verify(key.key_id, "challenge", 1, "00" * 64) is None
    _login(KeyStore(home().parent / "nobody"), data)
    if client is not None:
        for codec in CODECS:
            params = client.sign("challenge", 1)
            assert codec.params(msgspec.Raw(codec.encode(params)), LoginParams) == params


def _client() -> Key | None:
    try:
        key = load(home() / "client.key")
    except KeyFileError as error:
        assert str(error)
        return None
    assert key.private_key not in repr(key) or not key.private_key
    return key


def _server() -> KeyStore | None:
    try:
        return KeyStore(home())
    except KeyStoreError as error:
        assert str(error)
        return None


def _login(store: KeyStore, data: bytes) -> None:
    """What a client may send as a login, from a client that has no key."""
    text = data.decode("utf-8", "replace")
    key_id, _, rest = text.partition("\n")
    challenge, _, signature = rest.partition("\n")
    assert store.verify(key_id, challenge, len(data), signature) is None


def seeds() -> Iterator[tuple[str, bytes]]:
    """Good files of both kinds, and mistakes."""
    private = Ed25519PrivateKey.from_private_bytes(sha256(b"seed").digest())
    public = private.public_key().public_bytes_raw().hex()
    sealed = Fernet(MASTER)._encrypt_from_parts(bytes(range(32)), 1_700_000_000, bytes(16)).decode()
    one_key = {"key": "k-1", "account": 100, "kind": "ed25519", "permissions": ["read", "trade"], "public_key": public}
    other = {
        "key": "k-2",
        "account": 1,
        "kind": "hmac",
        "permissions": ["admin"],
        "sealed_secret": sealed,
        "ip_list": ["10.0.0.0/8"],
    }
    yield "server", msgspec.json.encode({"version": 1, "keys": [one_key, other]})
    yield "server-twice", msgspec.json.encode({"version": 1, "keys": [one_key, one_key]})
    yield "server-foreign", msgspec.json.encode({"version": 1, "keys": [{**other, "sealed_secret": "gAAAAAx"}]})
    yield "server-network", msgspec.json.encode({"version": 1, "keys": [{**one_key, "ip_list": ["10.0.0.1/8"]}]})
    yield "server-none", msgspec.json.encode({"version": 1, "keys": []})
    yield "server-version", msgspec.json.encode({"version": 2, "keys": []})
    yield "client", msgspec.json.encode({"key": "k-1", "kind": "ed25519", "private_key": "07" * 32})
    yield "client-hmac", msgspec.json.encode({"key": "k-2", "kind": "hmac", "secret": "08" * 32})
    yield "client-name", msgspec.json.encode({"key": "k-\u00e9", "kind": "hmac", "secret": "08" * 32})
    yield "client-short", msgspec.json.encode({"key": "k-1", "kind": "ed25519", "private_key": "07"})
    yield "login", b"k-1\n" + b"0" * 64 + b"\n" + b"ab" * 64
    yield "login-hmac", b"k-1\n" + b"0" * 64 + b"\n" + b"ab" * 32
    yield "empty", b""
