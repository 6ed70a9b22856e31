"""Signatures, times and nonces: NiceHash's published example, and everything that is no good request."""

import hashlib
import hmac
from pathlib import Path

import pytest

from engine.limits import SECOND_NS
from gateway.config import Bucket, Config, RateConfig
from gateway.nicehash import signing
from gateway.nicehash.signing import WINDOW_NS, Nonces, Signed, message, signed_headers
from gateway.ratelimit import MS_NS
from tests.nicehash.venue import Venue

NOW = 1_543_597_115_712 * MS_NS


def test_the_published_example() -> None:
    signed = Signed(
        "4ebd366d-76f4-4400-a3b6-e51515d054d6",
        "",
        1_543_597_115_712,
        "9675d0f8-1325-484b-9594-c9d6d3268890",
        "da41b3bc-3d0b-4226-b7ea-aee73f94a518",
    )
    secret = b"fd8a1652-728b-42fe-82b8-f623e56da8850750f5bf-ce66-4ca7-8b84-93651abc723b"
    path, query = "/main/api/v2/hashpower/orderBook", "algorithm=X16R&page=0&size=100"
    text = message(signed, "1543597115712", "GET", path, query, b"")
    expected = "21e6a16f6eb34ac476d59f969f548b47fffe3fea318d9c99e77fc710d2fed798"
    assert hmac.new(secret, text, hashlib.sha256).hexdigest() == expected


def test_a_body_is_signed_as_it_came() -> None:
    signed = Signed("key", "", 1, "nonce", "org")
    text = message(signed, "1", "post", "/p/", "", b'{"a": 1}')
    assert text == b'key\x001\x00nonce\x00\x00org\x00\x00POST\x00/p/\x00\x00{"a": 1}'
    assert message(signed, "1", "POST", "/p/", "", b'{"a":1}') != text


HEADERS = {"x-auth": "key:00", "x-time": "5", "x-nonce": "n", "x-organization-id": "org"}


def test_the_headers() -> None:
    assert signed_headers(HEADERS) == Signed("key", "00", 5, "n", "org")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        *((name, "", f"{name} is missing") for name in HEADERS),
        ("x-auth", "key", "key:signature"),
        ("x-time", "now", "milliseconds"),
        ("x-time", "-5", "milliseconds"),
        ("x-time", "1" * 17, "milliseconds"),
        ("x-nonce", "n" * (signing.NONCE_CHARS_MAX + 1), "at most 36"),
        ("x-organization-id", "o" * (signing.TEXT_CHARS_MAX + 1), "more than 128"),
    ],
)
def test_headers_that_are_none(name: str, value: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        signed_headers({**HEADERS, name: value})


def test_a_time_is_good_inside_the_window_only() -> None:
    nonces = Nonces(NOW - 10 * WINDOW_NS)
    ms, window_ms = NOW // MS_NS, WINDOW_NS // MS_NS
    assert nonces.is_timely(ms - window_ms, NOW)
    assert nonces.is_timely(ms + window_ms, NOW)
    assert not nonces.is_timely(ms - window_ms - 1, NOW)
    assert not nonces.is_timely(ms + window_ms + 1, NOW)


def test_a_time_from_before_the_start_is_no_good() -> None:
    nonces = Nonces(NOW)
    assert nonces.is_timely(NOW // MS_NS, NOW)
    assert not nonces.is_timely(NOW // MS_NS - 1, NOW)


def test_a_nonce_is_good_once_per_key() -> None:
    nonces = Nonces(NOW)
    assert nonces.use("a", "n", NOW)
    assert not nonces.use("a", "n", NOW)
    assert nonces.use("b", "n", NOW)
    assert nonces.use("a", "m", NOW)


def test_a_nonce_is_remembered_as_long_as_its_time_may_be_good() -> None:
    nonces = Nonces(NOW)
    nonces.use("a", "n", NOW)
    latest = NOW // MS_NS + WINDOW_NS // MS_NS
    last = NOW + 2 * WINDOW_NS
    assert nonces.is_timely(latest, last)
    assert not nonces.use("a", "n", last)
    assert not nonces.is_timely(latest, last + MS_NS)
    assert nonces.use("a", "n", last + MS_NS)


def test_nonces_are_bounded_per_key_and_in_all() -> None:
    nonces = Nonces(NOW, per_key_max=3, all_max=5, free=0)
    for number in range(3):
        assert not nonces.is_full("a", NOW)
        assert nonces.use("a", str(number), NOW)
    assert nonces.is_full("a", NOW)
    for number in range(2):
        assert not nonces.is_full("b", NOW)
        nonces.use("b", str(number), NOW)
    assert len(nonces) == 5
    assert nonces.is_full("c", NOW), "there is room for five in all"
    later = NOW + 2 * WINDOW_NS + 1
    assert not nonces.is_full("c", later)
    assert len(nonces) == 0


def test_busy_keys_lock_no_quiet_one_out() -> None:
    nonces = Nonces(NOW, per_key_max=3, all_max=5, free=2)
    for key in "ab":
        for number in range(3):
            nonces.use(key, str(number), NOW)
    for number in range(2):
        assert not nonces.is_full("c", NOW), "that much every key has free"
        assert nonces.use("c", str(number), NOW)
    assert nonces.is_full("c", NOW)
    assert nonces.is_full("a", NOW)


# --- in a request

ACCOUNTS = "/main/api/v2/accounting/accounts2/"


def test_a_signed_request(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    assert venue.call("GET", ACCOUNTS, venue.client())["total"]["available"] == "1"


def test_a_wrong_signature(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client, other = venue.client(), venue.client()
    for wrong in ("0" * 64, "0" * 63, "z" * 64, ""):
        status, code, _ = venue.error("GET", ACCOUNTS, client, signature=wrong or "-")
        assert (status, code) == (401, 2000)
    client.secret = other.secret
    assert venue.error("GET", ACCOUNTS, client)[:2] == (401, 2000)
    client.key = "9675d0f8-1325-484b-9594-c9d6d3268890"
    assert venue.error("GET", ACCOUNTS, client)[:2] == (401, 2000)


def test_an_unknown_key_reads_like_a_wrong_signature(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client = venue.client()
    wrong = venue.error("GET", ACCOUNTS, client, signature="0" * 64)
    client.key = "9675d0f8-1325-484b-9594-c9d6d3268890"
    assert venue.error("GET", ACCOUNTS, client) == wrong


def test_keys_of_other_kinds_sign_nothing_here(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client = venue.client()
    key, secret = venue.stage.keys.add(client.account, ("read",), "hmac")
    client.key, client.secret = key.key_id, secret
    assert venue.error("GET", ACCOUNTS, client)[:2] == (401, 2000)
    link = venue.stage.link()
    answer = link.ask("login", key=venue.client().key, timestamp_us=venue.stage.now_ns // 1_000, signature="0" * 64)
    assert answer["error"]["data"]["reason"] == "login_failed"


def test_a_stale_time(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client = venue.client()
    venue.wait(3_600)
    for off_s in (-301, 301):
        stamp = (venue.stage.now_ns + off_s * SECOND_NS) // MS_NS
        status, code, text = venue.error("GET", ACCOUNTS, client, time_ms=stamp)
        assert (status, code) == (401, 2000)
        assert f"X-Time is {off_s * 1_000} ms" in text
    venue.call("GET", ACCOUNTS, client, time_ms=(venue.stage.now_ns - 299 * SECOND_NS) // MS_NS)


def test_a_used_nonce(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client = venue.client()
    venue.call("GET", ACCOUNTS, client, nonce="once")
    status, code, text = venue.error("GET", ACCOUNTS, client, nonce="once")
    assert (status, code) == (401, 2000)
    assert "X-Nonce" in text


def test_a_refused_signature_uses_no_nonce_up(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client = venue.client()
    venue.error("GET", ACCOUNTS, client, nonce="once", signature="0" * 64)
    venue.call("GET", ACCOUNTS, client, nonce="once")


def test_a_request_without_budget_uses_no_nonce_up(tmp_path: Path) -> None:
    venue = Venue(tmp_path, Config(rates=RateConfig(requests=Bucket(per_second=1, burst=2))))
    client = venue.client()
    for number in range(2):
        venue.call("GET", ACCOUNTS, client, nonce=f"early {number}")
    for number in range(10):
        assert venue.error("GET", ACCOUNTS, client, nonce=f"late {number}")[0] == 429
    assert len(venue.service.nonces) == 2
    venue.stage.now_ns += SECOND_NS
    venue.call("GET", ACCOUNTS, client, nonce="late 0")
    assert len(venue.service.nonces) == 3


def test_another_organisation(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client, other = venue.client(), venue.client()
    assert venue.error("GET", ACCOUNTS, client, organization=other.organization)[:2] == (401, 2000)


def test_an_address_that_the_key_does_not_allow(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client = venue.client(1, "read", ip_list=("10.1.0.0/16",))
    assert venue.error("GET", ACCOUNTS, client)[:2] == (401, 2000)
    venue.call("GET", ACCOUNTS, client, ip="10.1.2.3")


def test_a_revoked_key_is_unknown_at_once(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client = venue.client()
    venue.call("GET", ACCOUNTS, client)
    venue.stage.keys.revoke(client.key)
    assert venue.error("GET", ACCOUNTS, client)[:2] == (401, 2000)


def test_a_missing_signature(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    status, code, text = venue.error("GET", ACCOUNTS)
    assert (status, code) == (401, 2000)
    assert "x-auth is missing" in text


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    client = venue.client()
    seen = [venue.error("GET", ACCOUNTS, client, signature="0" * 64)[0] for _ in range(30)]
    assert seen[:20] == [401] * 20
    assert set(seen[20:]) == {429}
    assert venue.ask("GET", ACCOUNTS, client)[0] == 429, "from that address"
    venue.call("GET", ACCOUNTS, client, ip="10.0.0.10")
