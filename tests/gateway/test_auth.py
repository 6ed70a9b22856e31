"""Keys and signatures: the published vectors, one answer for every wrong login, and files that only their owner reads."""

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway import auth
from gateway.auth import KEYS_FILE, MASTER_FILE, Key, KeyStore, KeyStoreError, StoredKey
from tests.gateway import vectors

PUBLIC = vectors.ED25519_PUBLIC
NOW_US = vectors.TIMESTAMP_US
Point = tuple[int, int]
FIELD = 2**255 - 19
EDWARDS_D = -121665 * pow(121666, -1, FIELD)
BASE_ORDER = 2**252 + 27742317777372353535851937790883648493


def write(directory: Path, *keys: dict[str, object], mode: int = 0o600) -> None:
    """A key file, as an operator's editor would leave it."""
    file = directory / KEYS_FILE
    file.write_text(json.dumps({"version": 1, "keys": [*keys]}))
    file.chmod(mode)


def row(key_id: str = vectors.KEY_ID, **changes: object) -> dict[str, object]:
    return {"key": key_id, "account": 100, "kind": "ed25519", "permissions": ["read"], "public_key": PUBLIC, **changes}


# --- vectors --------------------------------------------------------------------------------------------------------


def test_the_text_that_is_signed() -> None:
    text = auth.login_text(vectors.CHALLENGE, vectors.KEY_ID, vectors.TIMESTAMP_US)
    assert text == vectors.LOGIN_TEXT


def test_ed25519_vector(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vectors.ED25519_SEED))
    assert private.public_key().public_bytes_raw().hex() == vectors.ED25519_PUBLIC
    assert private.sign(vectors.LOGIN_TEXT).hex() == vectors.ED25519_SIGNATURE
    write(tmp_path, row())
    key = KeyStore(tmp_path).verify(vectors.KEY_ID, vectors.CHALLENGE, NOW_US, vectors.ED25519_SIGNATURE)
    assert key is not None
    assert key.key_id == vectors.KEY_ID


def test_hmac_vector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = bytes.fromhex(vectors.HMAC_SECRET)
    assert hmac.digest(secret, vectors.LOGIN_TEXT, hashlib.sha256).hex() == vectors.HMAC_SIGNATURE
    numbers = {8: vectors.KEY_ID.removeprefix("k-"), auth.SECRET_BYTES: vectors.HMAC_SECRET}
    monkeypatch.setattr(secrets, "token_hex", lambda size: numbers.get(size, "00" * size))
    store = KeyStore(tmp_path)
    key, told = store.add(100, ["read"], "hmac")
    assert (key.key_id, told) == (vectors.KEY_ID, vectors.HMAC_SECRET)
    assert store.verify(vectors.KEY_ID, vectors.CHALLENGE, NOW_US, vectors.HMAC_SIGNATURE) is key
    assert KeyStore(tmp_path).verify(vectors.KEY_ID, vectors.CHALLENGE, NOW_US, vectors.HMAC_SIGNATURE) is not None


def other(digit: str) -> str:
    return "0" if digit != "0" else "1"


@pytest.mark.parametrize("what", ["challenge", "key", "time", "signature", "kind", "length", "hex"])
def test_every_part_is_signed(tmp_path: Path, what: str) -> None:
    write(tmp_path, row(), row("k-other"))
    key_id, challenge, stamp, signature = vectors.KEY_ID, vectors.CHALLENGE, NOW_US, vectors.ED25519_SIGNATURE
    match what:
        case "challenge":
            challenge = other(challenge[0]) + challenge[1:]
        case "key":
            key_id = "k-other"
        case "time":
            stamp += 1
        case "signature":
            signature = signature[:-1] + other(signature[-1])
        case "kind":
            signature = vectors.HMAC_SIGNATURE
        case "length":
            signature = signature[:-2]
        case "hex":
            signature = " " + signature[1:]
    assert KeyStore(tmp_path).verify(key_id, challenge, stamp, signature) is None


@pytest.mark.parametrize("signature", [vectors.ED25519_SIGNATURE, vectors.HMAC_SIGNATURE])
@pytest.mark.parametrize("key_id", ["k-unknown", "k-ed25519", "k-hmac"])
def test_the_work_depends_on_the_signature_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, signature: str, key_id: str
) -> None:
    """Whoever is asked for, known or not, one signature of the kind that came is checked."""
    store = KeyStore(tmp_path)
    for name, kind in (("k-ed25519", "ed25519"), ("k-hmac", "hmac")):
        key, _ = store.add(100, ["read"], kind, PUBLIC if kind == "ed25519" else "")  # type: ignore[arg-type]
        store._keys[name] = key
    checks: list[str] = []
    real = Key._signed

    def counted(self: Key, kind: auth.KeyKind, text: bytes, raw: bytes) -> bool:
        checks.append(kind)
        return real(self, kind, text, raw)

    monkeypatch.setattr(Key, "_signed", counted)
    assert store.verify(key_id, vectors.CHALLENGE, NOW_US, signature) is None
    assert checks == ["ed25519" if len(signature) == 128 else "hmac"]


def test_nobody_cannot_log_in(tmp_path: Path) -> None:
    secret = auth._NOBODYS_SECRET
    text = auth.login_text(vectors.CHALLENGE, "nobody", NOW_US)
    signature = hmac.digest(secret, text, hashlib.sha256).hex()
    assert KeyStore(tmp_path).verify("nobody", vectors.CHALLENGE, NOW_US, signature) is None


@pytest.mark.parametrize(
    ("offset_us", "inside"), [(0, True), (10**7, True), (-(10**7), True), (10**7 + 1, False), (-(10**7) - 1, False)]
)
def test_the_window(offset_us: int, inside: bool) -> None:
    assert auth.in_window(NOW_US + offset_us, NOW_US * 1_000) is inside


def test_challenges_differ() -> None:
    made = {auth.new_challenge() for _ in range(100)}
    assert len(made) == 100
    assert all(len(text) == 64 and int(text, 16) >= 0 for text in made)


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip_list", "ip", "allowed"),
    [
        ([], "203.0.113.9", True),
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["192.0.2.7", "2001:db8::/32"], "2001:db8:1::1", True),
        (["2001:db8::/32"], "10.0.0.1", False),
        (["10.0.0.0/8"], "unknown", False),  # what a proxy may say of a client's address
        (["10.0.0.0/8"], "", False),
        ([], "unknown", True),
    ],
)
def test_address_lists(tmp_path: Path, ip_list: list[str], ip: str, allowed: bool) -> None:
    key, _ = KeyStore(tmp_path).add(100, ["read"], public_key=PUBLIC, ip_list=ip_list)
    assert key.allows(ip) is allowed


@pytest.mark.parametrize(
    ("ip", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", ""),
    ],
)
def test_address_groups(ip: str, group: str) -> None:
    assert auth.address_group(ip) == group


# --- the store ------------------------------------------------------------------------------------------------------


def test_added_keys_are_on_disk_for_their_owner_only(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    key, secret = store.add(100, ["trade", "read", "trade"], public_key=PUBLIC, label="desk", created_us=5)
    assert secret == ""
    assert key.key_id.startswith("k-")
    assert len(key.key_id) == 18
    assert key.stored.permissions == ("read", "trade")
    assert stat.S_IMODE((tmp_path / KEYS_FILE).stat().st_mode) == 0o600
    assert [found.stored for found in KeyStore(tmp_path).all()] == [key.stored]
    assert not [file for file in tmp_path.iterdir() if file.name not in (KEYS_FILE, "keys.lock")]


def test_hmac_secrets_are_encrypted_and_shown_nowhere(tmp_path: Path) -> None:
    key, secret = KeyStore(tmp_path).add(100, ["read"], "hmac")
    assert stat.S_IMODE((tmp_path / MASTER_FILE).stat().st_mode) == 0o600
    everything = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret.encode() not in everything
    assert bytes.fromhex(secret) not in everything
    for text in (repr(key), repr(key.stored), str(key), f"{key.stored}"):
        assert secret not in text
        assert key.stored.sealed_secret not in text


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"public_key": ""}, "public_key: "),
        ({"public_key": PUBLIC[:-1] + "g"}, "public_key: "),
        ({"public_key": PUBLIC.upper()}, "public_key: "),
        ({"public_key": "00" * 32}, "public_key: anybody could sign"),
        ({"kind": "hmac", "public_key": PUBLIC}, "public_key: "),
        ({"public_key": PUBLIC, "ip_list": ["10.0.0.0/8", "10.0.0.1/8"]}, "ip_list[1]: "),
        ({"public_key": PUBLIC, "ip_list": ["everywhere"]}, "ip_list[0]: "),
    ],
)
def test_what_cannot_be_added(tmp_path: Path, more: dict[str, object], says: str) -> None:
    store = KeyStore(tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(says)}"):
        store.add(100, ["read"], **more)  # type: ignore[arg-type]
    assert not store.all()
    assert not (tmp_path / KEYS_FILE).exists()


def _add(one: Point, other: Point) -> Point:
    """The sum of two points of edwards25519 (RFC 8032, 5.1.4)."""
    (x1, y1), (x2, y2) = one, other
    both = EDWARDS_D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + both, -1, FIELD)
    y = (y1 * y2 + x1 * x2) * pow(1 - both, -1, FIELD)
    return x % FIELD, y % FIELD


def _with_y(y: int) -> Point | None:
    """A point of that y, if there is one."""
    square = (y * y - 1) * pow(EDWARDS_D * y * y + 1, -1, FIELD) % FIELD
    for turn in (1, pow(2, (FIELD - 1) // 4, FIELD)):
        x = pow(square, (FIELD + 3) // 8, FIELD) * turn % FIELD
        if x * x % FIELD == square:
            return x, y
    return None


def _weak_keys() -> set[bytes]:
    """All ways to write a point whose order divides 8: what is left of any point, times the order of the base point."""
    points: set[Point] = set()
    for y in range(2, 60):
        rest, power, times = (0, 1), _with_y(y), BASE_ORDER
        while power is not None and times:
            if times % 2:
                rest = _add(rest, power)
            power, times = _add(power, power), times // 2
        points.add(rest)
    written = {way for _, y in points for way in (y, y + FIELD) if way < 2**255}
    return {(way | sign << 255).to_bytes(32, "little") for way in written for sign in (0, 1)}


def test_a_public_key_that_anybody_can_sign_for_is_refused(tmp_path: Path) -> None:
    weak = _weak_keys()
    assert len(weak) == 14
    for key in weak:
        with pytest.raises(ValueError, match=r"^public_key: anybody could sign"):
            KeyStore(tmp_path).add(100, ["read"], public_key=key.hex())
    # Why: under the neutral point, written 1, a signature without any secret is good for every text.
    neutral = (1).to_bytes(32, "little")
    assert neutral in weak
    Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), b"whatever")


def test_the_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(auth, "KEYS_MAX", 2)
    store = KeyStore(tmp_path)
    for _ in range(2):
        store.add(100, ["read"], public_key=PUBLIC)
    with pytest.raises(KeyStoreError, match="at most 2 keys"):
        store.add(100, ["read"], public_key=PUBLIC)


def test_revoking(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    gone: list[Key] = []
    store.on_revoked = gone.append
    first, _ = store.add(100, ["read"], public_key=PUBLIC)
    second, _ = store.add(100, ["read"], public_key=PUBLIC)
    assert store.revoke(first.key_id)
    assert gone == [first]
    assert first.revoked
    assert not second.revoked
    assert not store.revoke(first.key_id)
    assert store.get(first.key_id) is None
    assert [key.key_id for key in KeyStore(tmp_path).all()] == [second.key_id]


def test_another_process_changes_the_keys(tmp_path: Path) -> None:
    server, cli = KeyStore(tmp_path), KeyStore(tmp_path)
    gone: list[Key] = []
    server.on_revoked = gone.append
    kept, _ = cli.add(100, ["read"], public_key=PUBLIC)
    removed, _ = cli.add(101, ["read"], public_key=PUBLIC)
    assert server.reload()
    assert not server.reload(), "nothing changed since"
    held = server.get(kept.key_id)
    cli.revoke(removed.key_id)
    assert server.reload()
    assert [key.key_id for key in gone] == [removed.key_id]
    assert server.get(kept.key_id) is held, "an unchanged key stays the same object, and its sockets stay open"


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    one, two = KeyStore(tmp_path), KeyStore(tmp_path)
    first, _ = one.add(100, ["read"], public_key=PUBLIC)
    second, _ = two.add(100, ["read"], public_key=PUBLIC)
    assert one.revoke(second.key_id)
    assert [key.key_id for key in KeyStore(tmp_path).all()] == [first.key_id]


def test_a_changed_key_is_a_new_key(tmp_path: Path) -> None:
    write(tmp_path, row())
    store = KeyStore(tmp_path)
    gone: list[Key] = []
    store.on_revoked = gone.append
    before = store.get(vectors.KEY_ID)
    write(tmp_path, row(permissions=["read", "trade"]))
    os.utime(tmp_path / KEYS_FILE, ns=(1, 1))
    assert store.reload()
    assert gone == [before]
    after = store.get(vectors.KEY_ID)
    assert after is not None
    assert after.permissions == {"read", "trade"}


def test_a_nicehash_key_signs_texts_and_is_known_after_a_restart(tmp_path: Path) -> None:
    made, secret = KeyStore(tmp_path).add(100, ["read", "trade"], "nicehash")
    text = b"anything"
    signature = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    store = KeyStore(tmp_path)
    key = store.signed_by(made.key_id, text, signature)
    assert key is not None
    assert (key.key_id, key.account, key.stored.kind) == (made.key_id, 100, "nicehash")
    assert [len(part) for part in (made.key_id, secret)] == [36, 72]
    assert secret not in (tmp_path / KEYS_FILE).read_text()
    for wrong in (signature[:-1], "0" * 64, "z" * 64, "", signature + "00"):
        assert store.signed_by(made.key_id, text, wrong) is None
    assert store.signed_by(made.key_id, text + b"!", signature) is None
    assert store.signed_by("nobody", text, signature) is None
    assert store.verify(made.key_id, "challenge", 5, signature) is None


def test_only_nicehash_keys_sign_texts(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    made, secret = store.add(100, ["read"], "hmac")
    signature = hmac.digest(bytes.fromhex(secret), b"text", hashlib.sha256).hex()
    assert store.signed_by(made.key_id, b"text", signature) is None


def test_no_file_means_no_keys(tmp_path: Path) -> None:
    write(tmp_path, row())
    store = KeyStore(tmp_path)
    (tmp_path / KEYS_FILE).unlink()
    assert store.reload()
    assert not store.all()
    assert len(store) == 0


BROKEN = [
    ("{", "truncated"),
    ('{"version": 2, "keys": []}', "version"),
    ('{"version": 1, "keys": [], "more": 1}', "more"),
    (json.dumps({"version": 1, "keys": [row(permissions=["fly"])]}), "fly"),
    (json.dumps({"version": 1, "keys": [row(permissions=[])]}), "permissions"),
    (json.dumps({"version": 1, "keys": [row(account=0)]}), "account"),
    (json.dumps({"version": 1, "keys": [row(key="k-\u00e9")]}), "keys[0].key"),
    (json.dumps({"version": 1, "keys": [row(key="k-1\n")]}), "keys[0].key`"),
    (json.dumps({"version": 1, "keys": [row(public_key="aa")]}), "public_key: an Ed25519"),
    (json.dumps({"version": 1, "keys": [row(public_key="00" * 32)]}), "public_key: anybody could sign"),
    (json.dumps({"version": 1, "keys": [row(ip_list=["x"])]}), "ip_list"),
    (json.dumps({"version": 1, "keys": [row(), row()]}), "twice"),
    (json.dumps({"version": 1, "keys": [row(kind="hmac", public_key="", sealed_secret="x")]}), "master.key"),
]


@pytest.mark.parametrize(("text", "says"), BROKEN, ids=[says for _, says in BROKEN])
def test_a_broken_file_is_named_and_changes_nothing(tmp_path: Path, text: str, says: str) -> None:
    write(tmp_path, row())
    store = KeyStore(tmp_path)
    (tmp_path / KEYS_FILE).write_text(text)
    for _ in range(2):
        with pytest.raises(KeyStoreError, match=str(tmp_path)) as caught:
            store.reload()
        assert says in str(caught.value)
    assert store.get(vectors.KEY_ID) is not None
    with pytest.raises(KeyStoreError):
        KeyStore(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o777])
def test_files_that_others_may_use_are_refused(tmp_path: Path, mode: int) -> None:
    store = KeyStore(tmp_path)
    store.add(100, ["read"], "hmac")
    for name in (KEYS_FILE, MASTER_FILE):
        (tmp_path / name).chmod(mode)
        with pytest.raises(KeyStoreError, match=rf"{name}.*mode {mode:04o}.*chmod 600"):
            KeyStore(tmp_path)
        (tmp_path / name).chmod(0o600)
    assert len(KeyStore(tmp_path)) == 1


def test_a_lost_or_foreign_master_key_is_named(tmp_path: Path) -> None:
    running = KeyStore(tmp_path)
    key, _ = running.add(100, ["read"], "hmac")
    master = tmp_path / MASTER_FILE
    master.write_bytes(Fernet.generate_key())
    with pytest.raises(KeyStoreError, match=f"key {key.key_id} does not belong to {MASTER_FILE}"):
        KeyStore(tmp_path)
    master.write_bytes(b"short")
    with pytest.raises(KeyStoreError, match=MASTER_FILE):
        KeyStore(tmp_path)
    master.unlink()
    with pytest.raises(KeyStoreError, match=MASTER_FILE):
        KeyStore(tmp_path)
    with pytest.raises(KeyStoreError, match=MASTER_FILE):
        running.add(100, ["read"], "hmac")
    assert not master.exists(), "another master key would hide the loss"


def test_a_failed_write_leaves_the_old_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    kept, _ = store.add(100, ["read"], public_key=PUBLIC)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyStoreError, match="No space left"):
        store.add(100, ["read"], public_key=PUBLIC)
    with pytest.raises(KeyStoreError, match="No space left"):
        store.revoke(kept.key_id)
    monkeypatch.undo()
    assert [key.key_id for key in KeyStore(tmp_path).all()] == [kept.key_id]
    assert store.get(kept.key_id) is kept
    assert not kept.revoked
    assert {file.name for file in tmp_path.iterdir()} == {KEYS_FILE, "keys.lock"}


def test_stored_keys_are_what_the_file_says(tmp_path: Path) -> None:
    write(tmp_path, row(label="desk"))
    (key,) = KeyStore(tmp_path).all()
    assert key.stored == StoredKey(vectors.KEY_ID, 100, "ed25519", ("read",), public_key=PUBLIC, label="desk")
