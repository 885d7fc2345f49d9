"""Whether a member still is what its source's record says; only what the connection maps counts; pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from service.domain.change import Rules, UpstreamChange, UpstreamRemoval
from service.domain.member import Member
from service.domain.transition import Transition, publish, told_facts

__all__ = ["record_drift"]

# What the standing makes of the facts, and of the time, is not the source's to say.
_STANDING: Final = "state"


def record_drift(member: Member | None, change: UpstreamChange, now: datetime, rules: Rules) -> str | None:
    """Why the member is not what the change says, by the names of its fields; None where it is."""
    if isinstance(change, UpstreamRemoval):
        return "the member has left at its source" if member is not None and member.live else None
    if member is None or member.tombstone:
        return "its source has a member that is not known here"
    if not member.live:
        return "the member has left here and not at its source"
    decision = publish(member, told_facts(change.fields, rules.mapped_fields, member), now, rules.grace)
    differing = [name for name in decision.changed if name != _STANDING] if isinstance(decision, Transition) else []
    return f"the member differs from its source in {', '.join(differing)}" if differing else None
