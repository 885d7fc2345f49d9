"""WEBHOOK_RECEIVED v1: a webhook that was signed by its connection's source, as it came."""

from typing import Annotated, Final

from pydantic import StringConstraints

from contracts.fields import MAX_IDENTIFIER, NO_CONTROL, Identifier, Instant
from contracts.wire import InboundModel

MAX_BODY_CHARACTERS: Final = 1024 * 1024

DedupeKey = Annotated[str, StringConstraints(min_length=1, max_length=MAX_IDENTIFIER, pattern=NO_CONTROL)]
MediaType = Annotated[str, StringConstraints(min_length=1, max_length=MAX_IDENTIFIER, pattern=NO_CONTROL)]
Body = Annotated[str, StringConstraints(min_length=2, max_length=MAX_BODY_CHARACTERS)]


class WebhookReceivedV1(InboundModel):
    """The body is the text that was signed: a JSON object in UTF-8. What it means, the connection's mapping says.

    `dedupe_key` is the same for the same webhook however often it is sent; it is the `ce-id` too.
    """

    company_id: Identifier
    connection_id: Identifier
    dedupe_key: DedupeKey
    received_at: Instant
    content_type: MediaType
    body: Body
