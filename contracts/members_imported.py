"""MEMBERS_IMPORTED v1: a first import stored new members, who have no MEMBERSHIP_UPDATED of their own."""

from typing import Annotated

from pydantic import Field

from contracts.fields import Identifier, Instant
from contracts.wire import OutboundModel


class MembersImportedV1(OutboundModel):
    """So many members of a connection are new, each at version 1; who keeps a copy of them asks the API for that connection."""

    company_id: Identifier
    connection_id: Identifier
    members: Annotated[int, Field(ge=1)]
    occurred_at: Instant
