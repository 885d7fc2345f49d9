from __future__ import annotations

from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from service.domain.api_keys import ApiKeyId, digest, fits, new_secret, parse_key, written_key


def test_a_key_is_read_as_it_was_written() -> None:
    key_id, secret = ApiKeyId(uuid4()), new_secret()
    found = parse_key(written_key(key_id, secret))

    assert found is not None
    assert (found.id, found.secret) == (key_id, secret)
    assert fits(found.secret, digest(secret))
    assert not fits(new_secret(), digest(secret))
    assert secret not in repr(found)


@given(st.text())
def test_what_is_no_key_is_none(text: str) -> None:
    assert parse_key(text) is None


@given(st.integers(min_value=0, max_value=99), st.characters())
def test_a_key_with_another_character_is_none_or_another(place: int, character: str) -> None:
    key = written_key(ApiKeyId(uuid4()), new_secret())
    altered = key[:place] + character + key[place + 1 :]
    found = parse_key(altered)

    assert found is None or altered == key or written_key(found.id, found.secret) == altered
