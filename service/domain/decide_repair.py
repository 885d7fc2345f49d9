"""What brings a member back to what its audit ends in, whatever somebody wrote past the apply path."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from service.domain.change import DriftRepaired, Rules
from service.domain.decision import Decision, Refused
from service.domain.member import Member, UpstreamState
from service.domain.transition import Transition, Unchanged, publish

__all__ = ["decide_repair"]


def decide_repair(member: Member, change: DriftRepaired, now: datetime, rules: Rules) -> Decision:
    """Restore the audited values and number the version after the audited one; the standing follows from the facts, as always.

    Whose fields they are, and which version its source is at, does not matter: nothing new is said of the member.
    """
    audited = change.audited
    altered: dict[str, Any] = {"plan": audited.plan, "starts_at": audited.starts_at, "expires_at": audited.expires_at}
    if audited.upstream_state is not None and audited.upstream_state is not member.upstream_state:
        has_left = audited.upstream_state is UpstreamState.REMOVED
        if not has_left and member.name is None:
            return Refused("the member's name is gone, and only the removed are nameless")
        altered |= {"upstream_state": audited.upstream_state, "removed_at": now if has_left else None}
    restored = publish(replace(member, version=audited.version), altered, now, rules.grace, time_alone=True)
    state = restored.after.state
    found = restored.changed if isinstance(restored, Transition) else {}
    changed = {name: values for name, values in found.items() if name != "state"}
    if not changed and (member.version, member.state, state) == (audited.version, audited.state, audited.state):
        return Unchanged(member)
    if {member.state, audited.state} != {state}:
        changed["state"] = (member.state, state)
    # Subscribers were last told what the audit says, not what the row has become.
    return Transition(replace(restored.after, version=audited.version + 1), audited.state, changed)
