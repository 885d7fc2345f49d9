"""Which webhooks are believed: published vectors, the senders' own libraries as oracles, and hostile headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.webhooks.schemes import PRESETS, InvalidScheme, Scheme, SchemeName, Secret, scheme
from service.domain.webhooks.signatures import MAX_SIGNATURES, Cause, Forged, Headers, Verified, dedupe_key, sign, verify

VECTORS = json.loads((Path(__file__).parent / "signature_vectors.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BODY = b'{"id":"evt_1","action":"update"}'
SLACK = scheme(
    SchemeName.HMAC,
    {
        "header": "X-Slack-Signature",
        "prefix": "v0=",
        "content": "v0:{timestamp}:{body}",
        "timestampHeader": "X-Slack-Request-Timestamp",
    },
)
LINEAR = scheme(SchemeName.HMAC, {"header": "Linear-Signature", "algorithm": "sha512", "encoding": "base64"})
SCHEMES = [*PRESETS.values(), SLACK, LINEAR]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def headers_of(name: str) -> Headers:
    vector = VECTORS[name]
    match name.removesuffix("-octokit"):
        case "standard-webhooks":
            return [
                (b"webhook-id", vector["id"].encode()),
                (b"webhook-timestamp", vector["timestamp"].encode()),
                (b"webhook-signature", vector["signature"].encode()),
            ]
        case "github":
            return [(b"x-hub-signature-256", vector["signature"].encode())]
        case _:
            return [(b"stripe-signature", vector["signature"].encode())]


def judge_vector(name: str, headers: Headers, body: bytes, secret: str | None = None) -> Verified | Forged:
    vector, preset = VECTORS[name], PRESETS[SchemeName(name.removesuffix("-octokit"))]
    now = datetime.fromtimestamp(int(vector.get("timestamp", 0)), UTC)
    return verify(preset, headers, body, [Secret(preset.key(secret or vector["secret"]))], now)


NAMES = [name for name in VECTORS if name != "note"]


@pytest.mark.parametrize("name", NAMES)
def test_a_published_vector_verifies(name: str) -> None:
    assert isinstance(judge_vector(name, headers_of(name), VECTORS[name]["body"].encode()), Verified)


def changed(value: bytes, position: int) -> list[bytes]:
    """The bytes with that one changed, to each of the 255 others."""
    return [value[:position] + bytes([other]) + value[position + 1 :] for other in range(256) if other != value[position]]


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_with_any_byte_of_its_headers_changed_does_not_verify(name: str) -> None:
    headers, body = headers_of(name), VECTORS[name]["body"].encode()
    for number, (header, value) in enumerate(headers):
        for position in range(len(value)):
            for forged in changed(value, position):
                altered = [*headers[:number], (header, forged), *headers[number + 1 :]]
                assert isinstance(judge_vector(name, altered, body), Forged), (header, position, forged)


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_with_any_byte_of_its_body_changed_dropped_or_added_does_not_verify(name: str) -> None:
    headers, body = headers_of(name), VECTORS[name]["body"].encode()
    for position in range(len(body)):
        for forged in (*changed(body, position), body[:position] + body[position + 1 :], body[:position] + b" " + body[position:]):
            assert isinstance(judge_vector(name, headers, forged), Forged), (position, forged)
    assert isinstance(judge_vector(name, headers, body + b"\n"), Forged)


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_does_not_verify_with_another_secret(name: str) -> None:
    other = "whsec_NfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert judge_vector(name, headers_of(name), VECTORS[name]["body"].encode(), other) == Forged(Cause.MISMATCH)


def test_the_vector_that_must_fail_fails() -> None:
    vector = VECTORS["standard-webhooks"]
    headers = [(header, value) for header, value in headers_of("standard-webhooks") if header != b"webhook-signature"]
    headers.append((b"webhook-signature", vector["must_fail"].encode()))
    assert isinstance(judge_vector("standard-webhooks", headers, vector["body"].encode()), Forged)


def signed(with_scheme: Scheme, *, body: bytes = BODY, secret: str = SECRET, at: datetime = NOW) -> list[tuple[bytes, bytes]]:
    headers = sign(with_scheme, with_scheme.key(secret), body, message_id="msg_1", now=at)
    return [(name.encode(), value.encode()) for name, value in headers]


def judged(
    with_scheme: Scheme, headers: Headers, *secrets: Secret | str, body: bytes = BODY, now: datetime = NOW
) -> Verified | Forged:
    kept = [one if isinstance(one, Secret) else Secret(with_scheme.key(one)) for one in secrets or (SECRET,)]
    return verify(with_scheme, headers, body, kept, now)


@pytest.mark.parametrize("with_scheme", SCHEMES, ids=lambda one: one.signature_header.decode())
def test_what_is_signed_by_a_scheme_verifies_by_it(with_scheme: Scheme) -> None:
    assert isinstance(judged(with_scheme, signed(with_scheme)), Verified)
    assert judged(with_scheme, signed(with_scheme), body=BODY + b" ") == Forged(Cause.MISMATCH)


@pytest.mark.parametrize("with_scheme", SCHEMES, ids=lambda one: one.signature_header.decode())
def test_while_secrets_rotate_the_old_and_the_new_one_both_verify_and_then_only_the_new(with_scheme: Scheme) -> None:
    old, new = with_scheme.key(SECRET), with_scheme.key("whsec_NfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    retiring = [Secret(new), Secret(old, not_after=NOW + timedelta(hours=1))]
    by_old = signed(with_scheme)
    by_new = signed(with_scheme, secret="whsec_NfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert isinstance(judged(with_scheme, by_old, *retiring), Verified)
    assert isinstance(judged(with_scheme, by_new, *retiring), Verified)
    later = NOW + timedelta(hours=1)
    assert judged(with_scheme, signed(with_scheme, at=later), *retiring, now=later) == Forged(Cause.MISMATCH)


@pytest.mark.parametrize("with_scheme", [one for one in SCHEMES if one.timed], ids=lambda one: one.signature_header.decode())
def test_a_signature_holds_for_five_minutes_either_way(with_scheme: Scheme) -> None:
    headers = signed(with_scheme)
    for minutes in (-5, 0, 5):
        assert isinstance(judged(with_scheme, headers, now=NOW + timedelta(minutes=minutes)), Verified)
    for seconds in (-301, 301, 10**9):
        assert judged(with_scheme, headers, now=NOW + timedelta(seconds=seconds)) == Forged(Cause.OUTSIDE_TOLERANCE)


@pytest.mark.parametrize("with_scheme", SCHEMES, ids=lambda one: one.signature_header.decode())
def test_a_repeated_header_is_refused_even_where_both_are_the_same(with_scheme: Scheme) -> None:
    headers = signed(with_scheme)
    for header in headers:
        assert judged(with_scheme, [*headers, header]) == Forged(Cause.REPEATED_HEADER)


@pytest.mark.parametrize("with_scheme", SCHEMES, ids=lambda one: one.signature_header.decode())
def test_a_missing_header_is_refused(with_scheme: Scheme) -> None:
    headers = signed(with_scheme)
    for missing in headers:
        assert isinstance(judged(with_scheme, [one for one in headers if one != missing]), Forged)


def with_signatures(name: SchemeName, join: str) -> Headers:
    headers = dict(signed(PRESETS[name]))
    header = PRESETS[name].signature_header
    return [*((one, value) for one, value in headers.items() if one != header), (header, join.encode() % headers[header])]


@pytest.mark.parametrize(
    ("name", "join"),
    [
        (SchemeName.STANDARD_WEBHOOKS, "v1,junk %s"),
        (SchemeName.STANDARD_WEBHOOKS, "v2,abc v1a,ed25519 %s v1,=== v1,"),
        (SchemeName.STANDARD_WEBHOOKS, "  %s  "),
        (SchemeName.STRIPE, "v1=00,%s,v0=ab,v1=,=,,v9"),
        (SchemeName.WORKOS, "v1=zz, %s , x"),
    ],
)
def test_junk_beside_a_good_signature_is_skipped(name: SchemeName, join: str) -> None:
    assert isinstance(judged(PRESETS[name], with_signatures(name, join)), Verified)


def test_more_than_eight_signatures_are_not_looked_at() -> None:
    most = "%s" + " v1,junk" * (MAX_SIGNATURES - 1)
    assert isinstance(judged(PRESETS[SchemeName.STANDARD_WEBHOOKS], with_signatures(SchemeName.STANDARD_WEBHOOKS, most)), Verified)
    more = with_signatures(SchemeName.STANDARD_WEBHOOKS, most + " v1,junk")
    assert judged(PRESETS[SchemeName.STANDARD_WEBHOOKS], more) == Forged(Cause.TOO_MANY_SIGNATURES)


@pytest.mark.parametrize(
    "timestamp", ["", "+%d", "-%d", "%d ", " %d", "%d.0", "1_6", "0x5f", "%d00000000000", "٠١٢", "1e9", "%d\x00", "\xb2"]
)
def test_a_timestamp_is_ascii_digits_and_nothing_else(timestamp: str) -> None:
    """Each is signed as it stands, so that only its form can be the reason."""
    preset = PRESETS[SchemeName.STANDARD_WEBHOOKS]
    written = timestamp.replace("%d", str(int(NOW.timestamp()))).encode()
    digest = hmac.digest(preset.key(SECRET), b"msg_1." + written + b"." + BODY, "sha256")
    headers = [
        (b"webhook-id", b"msg_1"),
        (b"webhook-timestamp", written),
        (b"webhook-signature", b"v1," + base64.b64encode(digest)),
    ]
    verdict = judged(preset, headers)
    assert verdict in (Forged(Cause.MALFORMED_TIMESTAMP), Forged(Cause.NO_TIMESTAMP))


def test_a_timestamp_counts_as_it_was_sent() -> None:
    preset = PRESETS[SchemeName.STANDARD_WEBHOOKS]
    written = b"00" + str(int(NOW.timestamp())).encode()
    digest = hmac.digest(preset.key(SECRET), b"msg_1." + written + b"." + BODY, "sha256")
    headers = [
        (b"webhook-id", b"msg_1"),
        (b"webhook-timestamp", written),
        (b"webhook-signature", b"v1," + base64.b64encode(digest)),
    ]
    assert isinstance(judged(preset, headers), Verified)


def test_a_signature_has_one_spelling() -> None:
    """Hex in capitals and base64 with other unused bits decode to the same bytes, and are refused."""
    github = PRESETS[SchemeName.GITHUB]
    ((header, value),) = signed(github)
    assert judged(github, [(header, b"sha256=" + value[7:].upper())]) == Forged(Cause.MISMATCH)
    shopify = PRESETS[SchemeName.SHOPIFY]
    ((header, value),) = signed(shopify)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twin = value[:-2] + bytes([alphabet[alphabet.index(value[-2]) ^ 1]]) + b"="
    assert base64.b64decode(twin) == base64.b64decode(value)
    assert judged(shopify, [(header, twin)]) == Forged(Cause.MISMATCH)
    assert judged(shopify, [(header, value.rstrip(b"="))]) == Forged(Cause.MISMATCH)


@given(
    body=st.binary(max_size=200), key=st.binary(min_size=24, max_size=64), message_id=st.text("abc_019.", min_size=1, max_size=60)
)
def test_standard_webhooks_round_trips_with_the_official_library(body: bytes, key: bytes, message_id: str) -> None:
    text = body.decode("latin-1")
    preset, now = PRESETS[SchemeName.STANDARD_WEBHOOKS], datetime.now(UTC)
    secret = "whsec_" + base64.b64encode(key).decode()
    official = standardwebhooks.Webhook(secret)
    headers = [
        (b"webhook-id", message_id.encode()),
        (b"webhook-timestamp", str(int(now.timestamp())).encode()),
        (b"webhook-signature", official.sign(msg_id=message_id, timestamp=now, data=text).encode()),
    ]
    assert verify(preset, headers, text.encode(), [Secret(preset.key(secret))], now) == Verified(message_id.encode())
    ours = dict(sign(preset, preset.key(secret), b'{"a":1}', message_id=message_id, now=now))
    assert official.verify('{"a":1}', ours) == {"a": 1}


@given(text=st.text(max_size=200).filter(lambda text: text.isprintable()), secret=st.text("abcXYZ_0189", min_size=1, max_size=60))
def test_stripe_round_trips_with_the_official_library(text: str, secret: str) -> None:
    preset, now = PRESETS[SchemeName.STRIPE], datetime.now(UTC)
    timestamp = int(now.timestamp())
    # The library's own way of signing, which it does not publish.
    digest = stripe.WebhookSignature._compute_signature(f"{timestamp}.{text}", secret)
    headers = [(b"stripe-signature", f"t={timestamp},v1={digest}".encode())]
    assert isinstance(verify(preset, headers, text.encode(), [Secret(preset.key(secret))], now), Verified)
    ((_, ours),) = sign(preset, preset.key(secret), text.encode(), message_id="", now=now)
    assert stripe.WebhookSignature.verify_header(text, ours, secret, tolerance=300)


NAMES_OF_HEADERS = sorted(
    {name for one in SCHEMES for name in (one.signature_header, one.id_header, one.timestamp_header) if name is not None}
)
PIECES = [b"v1,", b"v1=", b"t=", b"sha256=", b"v0=", b",", b" ", b"=", b"1795262400", b"\xff", b"\x00"]
VALUES = st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(PIECES)).map(b"".join))


@settings(max_examples=300)
@given(
    with_scheme=st.sampled_from(SCHEMES),
    headers=st.lists(st.tuples(st.sampled_from(NAMES_OF_HEADERS), VALUES), max_size=12),
    body=st.binary(max_size=50),
)
def test_no_header_makes_it_fail_and_none_is_believed(with_scheme: Scheme, headers: Headers, body: bytes) -> None:
    assert isinstance(judged(with_scheme, headers, body=body), Forged)


def test_without_a_secret_nothing_is_believed() -> None:
    for with_scheme in SCHEMES:
        assert verify(with_scheme, signed(with_scheme), BODY, [], NOW) == Forged(Cause.MISMATCH)


def key_of(with_scheme: Scheme, body: bytes, signed_id: bytes | None = None, **payload: Any) -> str:
    return dedupe_key(with_scheme, Verified(signed_id), body, payload)


def test_a_webhook_is_the_same_by_what_its_scheme_signs() -> None:
    by_hash = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    assert key_of(PRESETS[SchemeName.STANDARD_WEBHOOKS], BODY, b"msg_1", id="evt_1") == "msg_1"
    assert key_of(PRESETS[SchemeName.STRIPE], BODY, id="evt_1") == "evt_1"
    assert key_of(PRESETS[SchemeName.WORKOS], BODY, id="evt_1") == "evt_1"
    for name in (SchemeName.GITHUB, SchemeName.SHOPIFY):
        assert key_of(PRESETS[name], BODY, id="evt_1") == by_hash
    assert key_of(PRESETS[SchemeName.STRIPE], BODY) == by_hash
    assert key_of(PRESETS[SchemeName.STRIPE], BODY, id=7) == by_hash


@given(signed_id=st.binary(min_size=1, max_size=600))
def test_any_signed_id_makes_a_key_that_fits_the_envelope(signed_id: bytes) -> None:
    key = key_of(PRESETS[SchemeName.STANDARD_WEBHOOKS], BODY, signed_id)
    assert 0 < len(key) <= 255
    assert key.isprintable()
    assert key == key_of(PRESETS[SchemeName.STANDARD_WEBHOOKS], BODY, signed_id)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "header is the name"),
        ({"header": "X Y"}, "header is the name"),
        ({"header": "X", "algorithm": "md5"}, "algorithm is one of sha256, sha512, sha1"),
        ({"header": "X", "encoding": "HEX"}, "encoding is one of hex, base64"),
        ({"header": "X", "content": "nothing"}, "content holds {body} once"),
        ({"header": "X", "content": "{body}{body}"}, "content holds {body} once"),
        ({"header": "X", "content": "{colour}{body}"}, "content holds {body} once"),
        ({"header": "X", "content": "\n{body}"}, "visible ASCII"),
        ({"header": "X", "content": "{timestamp}.{body}"}, "content holds {timestamp} exactly where a header carries it"),
        ({"header": "X", "idHeader": "Y"}, "content holds {id} exactly where a header carries it"),
        ({"header": "X", "prefix": "a b"}, "prefix is at most"),
        ({"header": "X", "separator": "|"}, "separator is a comma"),
        ({"header": "X", "algorithm": 256}, "every setting is a text"),
        ({"header": "X", "colour": "red"}, "unknown: colour"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_with_its_reason(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidScheme, match=problem.replace("{", r"\{")):
        scheme(SchemeName.HMAC, settings)


def test_a_preset_takes_no_settings() -> None:
    with pytest.raises(InvalidScheme, match="takes no settings"):
        scheme(SchemeName.GITHUB, {"header": "X"})


@pytest.mark.parametrize("secret", ["whsec_", "whsec_%%%", "not base64!", ""])
def test_a_secret_of_standard_webhooks_is_base64(secret: str) -> None:
    with pytest.raises(InvalidScheme, match="base64"):
        PRESETS[SchemeName.STANDARD_WEBHOOKS].key(secret)


def test_a_secret_does_not_show() -> None:
    assert "key" not in repr(Secret(b"hush"))
    assert "hush" not in repr(Secret(b"hush"))
