"""Keys and logins: who may speak for an account, and how a signature proves it.

A login signs the text of :func:`login_text` with an Ed25519 key (the server knows only its public half) or with HMAC-SHA256.
An unknown key costs the same work and gets the same answer as a bad signature. Keys live in ``keys.json``; the secrets of
HMAC keys are encrypted there under ``master.key``. Randomness and these two files are what this module touches outside;
time is a parameter.
"""

import fcntl
import hashlib
import hmac
import ipaddress
import os
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct

from gateway.wire import Permission

KEYS_FILE: Final = "keys.json"
MASTER_FILE: Final = "master.key"
LOCK_FILE: Final = "keys.lock"
KEYS_MAX: Final = 100_000
"""Keys in one key file."""
LOGIN_WINDOW_US: Final = 10_000_000
"""How far a login's timestamp may be from the server's clock, either way."""
SECRET_BYTES: Final = 32
PERMISSIONS: Final[tuple[str, ...]] = get_args(Permission)

_ED25519_HEX: Final = 128
_HMAC_HEX: Final = 64

# The points of the curve whose order is 1, 2, 4 or 8, as their y is written: in two cases in two ways. For a public key that is
# one of them made-up signatures pass, of anybody.
_WEAK_KEYS: Final = frozenset(
    {
        0,
        1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        2**255 - 20,
        2**255 - 19,
        2**255 - 18,
    }
)

KeyKind = Literal["ed25519", "hmac", "nicehash"]
"""``nicehash`` keys sign HTTP requests of NiceHash's API; they cannot log in."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class KeyStoreError(Exception):
    """The key files cannot be used; the text says which file, and why."""


class StoredKey(Struct, frozen=True, forbid_unknown_fields=True):
    """One key as ``keys.json`` has it. ``sealed_secret`` is the HMAC secret under the master key."""

    # printable ASCII, as clients sign it
    key: Annotated[str, Meta(max_length=64, pattern=r"^[!-~]+\Z")]
    account: Annotated[int, Meta(ge=1)]
    kind: KeyKind
    permissions: Annotated[tuple[Permission, ...], Meta(min_length=1, max_length=len(PERMISSIONS))]
    public_key: str = ""
    sealed_secret: str = ""
    ip_list: tuple[str, ...] = ()
    label: str = ""
    created_us: int = 0

    def __repr__(self) -> str:
        return f"StoredKey({self.key!r}, account={self.account}, kind={self.kind!r})"


class _KeyFile(Struct, forbid_unknown_fields=True):
    version: Literal[1]
    keys: Annotated[list[StoredKey], Meta(max_length=KEYS_MAX)]


class Key:
    """A key that can log in. Sessions hold on to it, so that ``revoked`` counts from the next message on."""

    __slots__ = ("_public", "_secret", "account", "key_id", "networks", "permissions", "revoked", "stored")

    def __init__(self, stored: StoredKey, secret: bytes) -> None:
        self.stored = stored
        self.key_id = stored.key
        self.account = stored.account
        self.permissions: frozenset[str] = frozenset(stored.permissions)
        self.networks: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in stored.ip_list)
        self.revoked = False
        self._secret = secret
        self._public = (
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(stored.public_key)) if stored.kind == "ed25519" else None
        )

    def __repr__(self) -> str:
        return f"Key({self.key_id!r}, account={self.account}, revoked={self.revoked})"

    def allows(self, ip: str) -> bool:
        """Whether the key may be used from ``ip``; a key without a list may be used from anywhere. What is no address, as a
        proxy may say of a client that it does not know, is in no list."""
        if not self.networks:
            return True
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address.version == network.version and address in network for network in self.networks)

    def _signed(self, kind: KeyKind, text: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's. A key of another kind does the work with a key that nobody has."""
        if kind == "hmac":
            secret = self._secret if self._public is None else _NOBODYS_SECRET
            return hmac.compare_digest(hmac.digest(secret, text, hashlib.sha256), signature)
        public = self._public if self._public is not None else _NOBODYS_PUBLIC
        try:
            public.verify(signature, text)
        except InvalidSignature:
            return False
        return True


# What the signature of an unknown key is checked with: the same work, and it never passes.
_NOBODYS_SECRET: Final = secrets.token_bytes(SECRET_BYTES)
_NOBODYS_PUBLIC: Final = Ed25519PrivateKey.generate().public_key()
_NOBODY: Final = Key(StoredKey("nobody", 1, "hmac", ("read",)), _NOBODYS_SECRET)


def new_challenge() -> str:
    """A text that was never used before and cannot be guessed, for one login."""
    return secrets.token_hex(32)


def login_text(challenge: str, key_id: str, timestamp_us: int) -> bytes:
    """What a login signs."""
    return f"hashpit login\n{challenge}\n{key_id}\n{timestamp_us}".encode()


def in_window(timestamp_us: int, now_ns: int) -> bool:
    """Whether a login's timestamp is near enough to the server's clock."""
    return abs(timestamp_us - now_ns // 1_000) <= LOGIN_WINDOW_US


def address_group(ip: str) -> str:
    """What counts as one address when limits are shared: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv4Address):
        return ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class KeyStore:
    """The keys of one data directory. Other processes may change the files: :meth:`reload` picks that up.

    ``on_revoked`` is called with every key that is gone, whether revoked here, removed from the file, or changed there.
    """

    def __init__(self, data_dir: Path) -> None:
        """Read the keys; none when there is no file yet. Raises KeyStoreError."""
        self._file = data_dir / KEYS_FILE
        self._master_file = data_dir / MASTER_FILE
        self._lock_file = data_dir / LOCK_FILE
        self._keys: dict[str, Key] = {}
        self._seen: tuple[int, int, int] | None = None
        self.on_revoked: Callable[[Key], None] = lambda key: None
        self.reload()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    def all(self) -> list[Key]:
        """Every key, oldest first."""
        return list(self._keys.values())

    def verify(self, key_id: str, challenge: str, timestamp_us: int, signature: str) -> Key | None:
        """The key that signed, or None. What it costs depends on the signature's length only, never on the key."""
        if len(signature) not in (_ED25519_HEX, _HMAC_HEX):
            return None
        kind: KeyKind = "ed25519" if len(signature) == _ED25519_HEX else "hmac"
        try:
            raw = bytes.fromhex(signature)
        except ValueError:
            return None
        known = self._keys.get(key_id)
        key = known if known is not None else _NOBODY
        signed = key._signed(kind, login_text(challenge, key_id, timestamp_us), raw)
        return known if signed and known is not None and known.stored.kind == kind else None

    def signed_by(self, key_id: str, text: bytes, signature: str) -> Key | None:
        """The ``nicehash`` key that signed ``text`` with HMAC-SHA256 (hex), or None. An unknown key costs the same work."""
        if len(signature) != _HMAC_HEX:
            return None
        try:
            raw = bytes.fromhex(signature)
        except ValueError:
            return None
        known = self._keys.get(key_id)
        key = known if known is not None and known.stored.kind == "nicehash" else _NOBODY
        signed = key._signed("hmac", text, raw)
        return known if signed and key is known else None

    # ---------------------------------------------------------------------------------------------------------- changes

    def add(
        self,
        account: int,
        permissions: Sequence[Permission],
        kind: KeyKind = "ed25519",
        public_key: str = "",
        ip_list: Sequence[str] = (),
        label: str = "",
        created_us: int = 0,
    ) -> tuple[Key, str]:
        """A new key under a new id, and its secret: hex, for ``nicehash`` two UUIDs on end, for Ed25519 nothing. The file is on
        disk before this returns.

        Raises ValueError naming the field that is wrong, KeyStoreError when the files cannot be used.
        """
        sealed, secret = "", ""
        if kind == "ed25519":
            if problem := _public_key_problem(public_key):
                raise ValueError(f"public_key: {problem}")
        elif public_key:
            raise ValueError("public_key: only an ed25519 key has one")
        for number, text in enumerate(ip_list):
            if _network(text) is None:
                raise ValueError(f"ip_list[{number}]: {text!r} is neither an IP address nor a network such as 10.0.0.0/8")
        with self._locked():
            self.reload()
            if len(self._keys) >= KEYS_MAX:
                raise KeyStoreError(f"{KEYS_FILE} holds at most {KEYS_MAX} keys")
            raw = b""
            if kind != "ed25519":
                secret = f"{uuid.uuid4()}{uuid.uuid4()}" if kind == "nicehash" else secrets.token_hex(SECRET_BYTES)
                raw = secret.encode() if kind == "nicehash" else bytes.fromhex(secret)
                # Where there are secrets already, a master key that is missing is lost, not yet to be made.
                is_first = all(key.stored.kind == "ed25519" for key in self._keys.values())
                sealed = self._master(make=is_first).encrypt(raw).decode()
            stored = StoredKey(
                key=str(uuid.uuid4()) if kind == "nicehash" else f"k-{secrets.token_hex(8)}",
                account=account,
                kind=kind,
                permissions=tuple(sorted(set(permissions), key=PERMISSIONS.index)),
                public_key=public_key,
                sealed_secret=sealed,
                ip_list=tuple(ip_list),
                label=label,
                created_us=created_us,
            )
            key = Key(stored, raw)
            self._write([*(known.stored for known in self._keys.values()), stored])
            self._keys[stored.key] = key
        return key, secret

    def revoke(self, key_id: str) -> bool:
        """Remove a key for good; False when there is none of that id. The file is on disk before this returns."""
        with self._locked():
            self.reload()
            key = self._keys.get(key_id)
            if key is None:
                return False
            self._write([known.stored for known in self._keys.values() if known is not key])
            del self._keys[key_id]
        self._gone(key)
        return True

    def reload(self) -> bool:
        """Read the file again if it is not the one that was read last; whether it was. Cheap when nothing changed.

        Raises KeyStoreError for a file that cannot be used; the keys stay what they were.
        """
        seen = self._stamp()
        if seen == self._seen:
            return False
        stored = self._read() if seen is not None else []
        keys: dict[str, Key] = {}
        for row in stored:
            known = self._keys.get(row.key)
            if row.key in keys:
                raise KeyStoreError(f"{self._file}: key {row.key} is there twice")
            keys[row.key] = known if known is not None and known.stored == row else self._key(row)
        gone = [key for key in self._keys.values() if keys.get(key.key_id) is not key]
        self._keys = keys
        self._seen = seen
        for key in gone:
            self._gone(key)
        return True

    def _gone(self, key: Key) -> None:
        key.revoked = True
        self.on_revoked(key)

    # ------------------------------------------------------------------------------------------------------------ files

    def _key(self, stored: StoredKey) -> Key:
        secret = b""
        if stored.kind != "ed25519":
            try:
                secret = self._master().decrypt(stored.sealed_secret.encode())
            except InvalidToken:
                problem = f"the secret of key {stored.key} does not belong to {self._master_file.name}"
                raise KeyStoreError(f"{self._file}: {problem}") from None
        elif problem := _public_key_problem(stored.public_key):
            raise KeyStoreError(f"{self._file}: key {stored.key}: public_key: {problem}")
        for text in stored.ip_list:
            if _network(text) is None:
                raise KeyStoreError(f"{self._file}: key {stored.key}: ip_list: {text!r} is not a network")
        return Key(stored, secret)

    def _read(self) -> list[StoredKey]:
        try:
            _refuse_public(self._file)
            return msgspec.json.decode(self._file.read_bytes(), type=_KeyFile).keys
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise KeyStoreError(f"{self._file}: {problem}") from problem

    def _write(self, keys: Sequence[StoredKey]) -> None:
        text = msgspec.json.format(msgspec.json.encode(_KeyFile(1, [*keys])), indent=2)
        _write_private(self._file, text)
        self._seen = self._stamp()

    def _stamp(self) -> tuple[int, int, int] | None:
        """Tells one version of the file from another; None when there is no file."""
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise KeyStoreError(f"{self._file}: {problem}") from problem
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _master(self, make: bool = False) -> Fernet:
        """The key that HMAC secrets are encrypted under; ``make`` it when there is none."""
        try:
            if make and not self._master_file.exists():
                _write_private(self._master_file, Fernet.generate_key())
            _refuse_public(self._master_file)
            return Fernet(self._master_file.read_bytes().strip())
        except (OSError, ValueError) as problem:
            raise KeyStoreError(f"{self._master_file}: {problem}") from problem

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, over processes: the server and ``hashpit key`` may meet."""
        try:
            handle = os.open(self._lock_file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise KeyStoreError(f"{self._lock_file}: {problem}") from problem
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _public_key_problem(text: str) -> str:
    """Why this cannot be an Ed25519 key's public half; empty if it can."""
    if len(text) != 64 or any(digit not in "0123456789abcdef" for digit in text):
        return "an Ed25519 public key is 64 hex digits"
    # the highest bit is the sign of x and no part of y
    if int.from_bytes(bytes.fromhex(text), "little") % 2**255 in _WEAK_KEYS:
        return "anybody could sign for this key: it is no key's public half"
    return ""


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _refuse_public(file: Path) -> None:
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise KeyStoreError(f"{file}: others may use it (mode {mode:04o}); chmod 600 it")


def _write_private(file: Path, content: bytes) -> None:
    """Replace ``file`` whole and durably; only its owner can read it, from its first byte on."""
    fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(fresh, file)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        directory = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as problem:
        raise KeyStoreError(f"{file}: {problem}") from problem
