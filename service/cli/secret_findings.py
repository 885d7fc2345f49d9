"""Whether all who hold secrets have one that can be used: granted, not ended, and to be read here."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Final, TypeAlias

from service.cli.findings import Finding, broken, odd, well
from service.store.secret_grants import HeldSecret
from service.store.webhook_secrets import WebhookSecret

__all__ = ["OpenSecret", "held_secret_findings", "secret_findings"]

# Why the secret cannot be used here, None where it can; never its value.
OpenSecret: TypeAlias = Callable[[WebhookSecret, str], str | None]

_PLACES: Final = {"directory": "every worker and edge", "subscriber": "every worker", "scan provider": "every worker"}
_SOON: Final = timedelta(days=7)
_ABOUT: Final = "secrets"


@dataclass(frozen=True, slots=True)
class _Held:
    """A secret that has not ended; `problem` says why it cannot be used and what to do, None where it can."""

    reference: str
    holds_for: timedelta | None
    problem: str | None


def secret_findings(secrets: Sequence[WebhookSecret], open_secret: OpenSecret) -> list[Finding]:
    """What is wrong with any, or one line that nothing is; `secrets` are those of one connection after another."""
    if not secrets:
        return [well(_ABOUT, "no connection takes webhooks")]
    findings: list[Finding] = []
    usable = connections = 0
    for _, of_one in groupby(secrets, key=lambda one: one.connection_id):
        connections += 1
        rows = list(of_one)
        held = [_look(row, row.reference, open_secret) for row in rows if row.reference is not None and not _ended(row)]
        usable += sum(one.problem is None for one in held)
        findings += _of_connection(rows, held)
    return findings or [well(_ABOUT, f"{_counted(usable, 'secret')} of {_counted(connections, 'connection')} can be used here")]


def held_secret_findings(secrets: Sequence[HeldSecret], problem_of: Callable[[HeldSecret], str | None]) -> list[Finding]:
    """What is wrong with any secret of directories, subscribers and scan providers, or one line that nothing is, or none.

    `problem_of` says why a secret cannot be read here, without its value. Of several of one holder, one that can be used is enough.
    """
    findings: list[Finding] = []
    for (company, kind, holder), of_one in groupby(secrets, key=lambda one: (one.company, one.kind, one.holder)):
        held = [
            (one, problem_of(one) if one.granted else f"{one.reference} is not granted; `{_grant(one)}` does that")
            for one in of_one
        ]
        found = odd if any(problem is None for _, problem in held) else broken
        findings += [
            found(
                _ABOUT, f"{company}/{holder} ({kind}): {problem}{f'; mend it here and on {_PLACES[kind]}' if one.granted else ''}"
            )
            for one, problem in held
            if problem is not None
        ]
    if secrets and not findings:
        return [well(_ABOUT, f"{_counted(len(secrets), 'secret')} of directories, subscribers and scan providers can be used here")]
    return findings


def _grant(secret: HeldSecret | WebhookSecret) -> str:
    return shlex.join(["rollcall", "secrets", "grant", secret.company, secret.reference or ""])


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _ended(row: WebhookSecret) -> bool:
    return row.holds_for is not None and row.holds_for <= timedelta()


def _look(row: WebhookSecret, reference: str, open_secret: OpenSecret) -> _Held:
    if row.revoked:
        problem: str | None = f"{reference} was revoked; `{_grant(row)}` gives it back"
    else:
        problem = open_secret(row, reference)
        if problem is not None:
            problem = f"{problem if reference in problem else f'{reference}: {problem}'}; mend it here and on every edge"
    return _Held(reference, row.holds_for, problem)


def _of_connection(rows: Sequence[WebhookSecret], held: Sequence[_Held]) -> list[Finding]:
    name = f"{rows[0].company}/{rows[0].connection}"
    rotate = f"`rollcall connections rotate {rows[0].connection_id} --secret …`"
    problems = [one.problem for one in held if one.problem is not None]
    usable = [one for one in held if one.problem is None]
    if not usable:
        if problems:
            why = "; ".join(problems)
        elif rows[0].reference is not None:
            why = f"all its secrets have ended; {rotate} adds one"
        else:
            why = f"it has no secret; {rotate} adds one"
        return [broken(_ABOUT, f"{name} answers 503: {why}")]
    findings = [odd(_ABOUT, f"{name}: {problem}, or {rotate} replaces it") for problem in problems]
    # The one that holds longest: while secrets rotate, that the old one ends is as it should be.
    if all(one.holds_for is not None for one in usable):
        last = max(usable, key=lambda one: one.holds_for or timedelta())
        if last.holds_for is not None and last.holds_for < _SOON:
            findings.append(
                odd(_ABOUT, f"{name}: {last.reference} ends in {_written(last.holds_for)} and none follows; {rotate} adds one")
            )
    return findings


def _written(left: timedelta) -> str:
    hours = int(left.total_seconds() // 3600)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} hours" if hours > 1 else f"{max(1, int(left.total_seconds() // 60))} minutes"
