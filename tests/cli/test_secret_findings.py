"""What `rollcall doctor` says of the secrets of connections."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.cli.findings import Finding, Verdict
from service.cli.secret_findings import held_secret_findings, secret_findings
from service.domain.member import ConnectionId
from service.store.secret_grants import HeldSecret
from service.store.webhook_secrets import WebhookSecret

HOOKS = ConnectionId(UUID(int=7))
ROTATE = f"`rollcall connections rotate {HOOKS} --secret …`"
OTHER = f"file:missing cannot be read; mend it here and on every edge, or {ROTATE} replaces it"


def secret(reference: str | None = "file:good", *, days: float | None = None, **given: Any) -> WebhookSecret:
    held: dict[str, Any] = {
        "company": "The Choir",
        "connection_id": HOOKS,
        "connection": "hooks",
        "scheme": "github",
        "settings": {},
        "reference": reference,
        "holds_for": None if days is None else timedelta(days=days),
        "revoked": False,
    }
    return WebhookSecret(**held | given)


def open_secret(_: WebhookSecret, reference: str) -> str | None:
    return None if reference.startswith("file:good") else f"{reference} cannot be read"


def found(*secrets: WebhookSecret) -> list[Finding]:
    return secret_findings(secrets, open_secret)


@pytest.mark.parametrize(
    ("secrets", "verdict", "text"),
    [
        ([secret()], Verdict.WELL, "1 secret of 1 connection can be used here"),
        ([], Verdict.WELL, "no connection takes webhooks"),
        # An old one that ends while its follower holds is a rotation.
        ([secret(), secret("file:good-old", days=0.5)], Verdict.WELL, "2 secrets of 1 connection can be used here"),
        ([secret(), secret("file:missing", days=-1)], Verdict.WELL, "1 secret of 1 connection can be used here"),
        ([secret(days=8)], Verdict.WELL, "1 secret of 1 connection can be used here"),
        ([secret(), secret("file:missing")], Verdict.ODD, f"The Choir/hooks: {OTHER}"),
        ([secret(days=6.5)], Verdict.ODD, f"The Choir/hooks: file:good ends in 6 days and none follows; {ROTATE} adds one"),
        ([secret(days=0.01)], Verdict.ODD, f"The Choir/hooks: file:good ends in 14 minutes and none follows; {ROTATE} adds one"),
        (
            [secret(days=1), secret("file:good-old", days=1.5)],
            Verdict.ODD,
            f"The Choir/hooks: file:good-old ends in 36 hours and none follows; {ROTATE} adds one",
        ),
        (
            [secret(), secret("file:good-old", revoked=True)],
            Verdict.ODD,
            "The Choir/hooks: file:good-old was revoked; `rollcall secrets grant 'The Choir' file:good-old` gives it back, or "
            f"{ROTATE} replaces it",
        ),
        (
            [secret(revoked=True)],
            Verdict.BROKEN,
            "The Choir/hooks answers 503: file:good was revoked; `rollcall secrets grant 'The Choir' file:good` gives it back",
        ),
        ([secret(days=-1)], Verdict.BROKEN, f"The Choir/hooks answers 503: all its secrets have ended; {ROTATE} adds one"),
        ([secret(None)], Verdict.BROKEN, f"The Choir/hooks answers 503: it has no secret; {ROTATE} adds one"),
        (
            [secret("file:missing")],
            Verdict.BROKEN,
            "The Choir/hooks answers 503: file:missing cannot be read; mend it here and on every edge",
        ),
    ],
)
def test_a_connection_s_secrets_come_to_one_line(secrets: list[WebhookSecret], verdict: Verdict, text: str) -> None:
    assert found(*secrets) == [Finding(verdict, "secrets", text)]


def test_each_connection_is_judged_by_itself() -> None:
    other = ConnectionId(uuid4())
    lines = found(secret("file:missing"), secret(connection_id=other), secret("file:missing", connection_id=other))
    assert [line.verdict for line in lines] == [Verdict.BROKEN, Verdict.ODD]


def test_a_problem_that_does_not_name_its_reference_gets_it() -> None:
    (line,) = secret_findings([secret()], lambda *_: "a secret is base64")
    assert "file:good: a secret is base64; mend it" in line.text


def held(reference: str, holder: str = "lists", kind: str = "subscriber", *, granted: bool = True) -> HeldSecret:
    return HeldSecret(company="The Choir", kind=kind, holder=holder, reference=reference, granted=granted)


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        ([], []),
        ([held("file:good")], [(Verdict.WELL, "1 secret of directories, subscribers and scan providers can be used here")]),
        (
            [held("file:good"), held("file:good-too"), held("file:good", "breach", "scan provider")],
            [(Verdict.WELL, "3 secrets of directories, subscribers and scan providers can be used here")],
        ),
        # While it is rotated one is enough.
        (
            [held("file:good"), held("file:missing")],
            [(Verdict.ODD, "The Choir/lists (subscriber): file:missing cannot be read; mend it here and on every worker")],
        ),
        (
            [held("file:missing", "register", "directory")],
            [
                (
                    Verdict.BROKEN,
                    "The Choir/register (directory): file:missing cannot be read; mend it here and on every worker and edge",
                )
            ],
        ),
        (
            [held("file:good", "breach", "scan provider", granted=False), held("file:good")],
            [
                (
                    Verdict.BROKEN,
                    "The Choir/breach (scan provider): file:good is not granted; "
                    "`rollcall secrets grant 'The Choir' file:good` does that",
                )
            ],
        ),
    ],
)
def test_who_asks_others_with_a_secret_is_told_of_too(secrets: list[HeldSecret], expected: list[tuple[Verdict, str]]) -> None:
    found = held_secret_findings(secrets, lambda one: open_secret(secret(), one.reference))
    assert [(finding.verdict, finding.text) for finding in found] == expected
