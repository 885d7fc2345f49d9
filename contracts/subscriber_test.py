"""SUBSCRIBER_TEST v1: what a subscriber is sent when somebody tests it; about no member, and over HTTP alone."""

from typing import Final

from contracts.fields import Identifier, Instant
from contracts.wire import OutboundModel

SUBSCRIBER_TEST: Final = "SUBSCRIBER_TEST"


class SubscriberTestV1(OutboundModel):
    """It is signed and sent like every notification; to answer 2xx is all that is asked for."""

    subscriber_id: Identifier
    company_id: Identifier
    requested_at: Instant
