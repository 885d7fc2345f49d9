"""MEMBER_CHANGED v1: a source says what one member is now, or that it has left."""

from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, model_validator

from contracts.fields import (
    Action,
    Email,
    ExternalId,
    Identifier,
    Instant,
    Metadata,
    Name,
    NationalId,
    NotNull,
    Phone,
    Plan,
    SourceVersion,
    UpstreamState,
    broken_rule,
)
from contracts.wire import InboundModel

# JSON Schema's way of saying that an upsert brings its member and a removal brings none.
_MEMBER_GOES_WITH_UPSERT: Final[dict[str, Any]] = {
    "if": {"properties": {"action": {"const": "upsert"}}},
    "then": {"required": ["member"], "properties": {"member": {"type": "object"}}},
    "else": {"properties": {"member": {"type": "null"}}},
}


class UpstreamMember(InboundModel):
    """What the source says of a member: an absent field is untouched, null clears it (name and state take no null)."""

    national_id: NationalId | None = None
    name: Annotated[Name | None, NotNull()] = None
    email: Email | None = None
    phone: Phone | None = None
    state: Annotated[UpstreamState | None, NotNull()] = None
    plan: Plan | None = None
    starts_at: Instant | None = None
    expires_at: Instant | None = None
    metadata: Metadata | None = None

    def given(self) -> frozenset[str]:
        """The Python names of the fields the source sent, null among them."""
        return frozenset(self.model_fields_set)


class MemberChangedV1(InboundModel):
    """One change of one member at its source.

    `version` grows per member at its source; a source without one sends its `updated_at` in microseconds.
    """

    model_config = ConfigDict(json_schema_extra=_MEMBER_GOES_WITH_UPSERT)

    company_id: Identifier
    connection_id: Identifier
    external_id: ExternalId
    action: Action
    version: SourceVersion
    updated_at: Instant
    member: UpstreamMember | None = None

    @model_validator(mode="after")
    def _member_goes_with_upsert(self) -> Self:
        if self.action == "upsert" and self.member is None:
            raise broken_rule("member_missing", "member: required for an upsert")
        if self.action == "remove" and self.member is not None:
            raise broken_rule("member_unexpected", "member: not allowed for a removal")
        return self
