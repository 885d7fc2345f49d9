"""MEMBERSHIP_UPDATED v1: one member's standing or facts changed; exactly one event per member version."""

from contracts.fields import (
    ChangedField,
    ExternalId,
    Identifier,
    Instant,
    MembershipState,
    Plan,
    ReasonCode,
    RowVersion,
)
from contracts.wire import OutboundModel


class MembershipUpdatedV1(OutboundModel):
    """What became of a member, without personal data: who needs a name asks the API.

    `version` runs 1..n per member without gaps: keep the greatest seen and drop what is not newer.
    """

    member_id: Identifier
    company_id: Identifier
    connection_id: Identifier | None
    external_id: ExternalId | None
    previous_state: MembershipState | None
    new_state: MembershipState
    reason_code: ReasonCode
    changed_fields: tuple[ChangedField, ...]
    plan: Plan | None
    starts_at: Instant | None
    expires_at: Instant | None
    version: RowVersion
    occurred_at: Instant
