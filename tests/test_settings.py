"""What the environment says of directories: networks, addresses and keys, and that a wrong one is named and not shown."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from service.settings import Settings, SettingsError, load_settings

URLS = {"database_url": "postgresql://a@b/c", "rabbitmq_url": "amqp://a@b/c"}


def given(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name.upper(), value)
    return load_settings(**URLS)


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("", None),
        (" , ", None),
        ("10.20.0.0/16", (ip_network("10.20.0.0/16"),)),
        ("127.0.0.0/8, ::1,10.0.0.7", (ip_network("127.0.0.0/8"), ip_network("::1/128"), ip_network("10.0.0.7/32"))),
    ],
)
def test_networks_are_a_list_of_cidrs(monkeypatch: pytest.MonkeyPatch, text: str, networks: Any) -> None:
    assert given(monkeypatch, allow_networks=text).allow_networks == networks


@pytest.mark.parametrize("text", ["10.20.30.40/16", "inner", "10.0.0.0/33", "*"])
def test_what_is_no_network_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(SettingsError, match=r"ALLOW_NETWORKS: must be networks such as 10\.20\.0\.0/16"):
        given(monkeypatch, allow_networks=text)


@pytest.mark.parametrize("text", ["members.example", "ftp://a", "https://user:hush@a", "https://a/?key=hush", "https://a/#x"])
def test_the_directory_is_an_address_without_a_key_in_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(SettingsError, match="DJANGO_BASE_URL: must be a URL of the form https://host") as refused:
        given(monkeypatch, django_base_url=text)
    assert "hush" not in str(refused.value)


def test_the_key_is_not_shown_and_blank_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    found = given(monkeypatch, django_base_url="https://a.example", django_api_key="hush")
    assert found.django_api_key is not None
    assert "hush" not in repr(found)
    assert given(monkeypatch, django_base_url=" ", django_api_key=" ").django_base_url is None
    assert given(monkeypatch, django_api_key=" ").django_api_key is None
