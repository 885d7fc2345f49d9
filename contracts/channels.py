"""Every exchange, queue, routing key and message there is, as data; `CHANNELS` is the one place where one is added."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal
from uuid import UUID

from contracts.drift_promoted import DriftPromotedV1
from contracts.job_requested import KIND_PATTERN, MAX_KIND, JobRequestedV1
from contracts.member_changed import MemberChangedV1
from contracts.members_imported import MembersImportedV1
from contracts.membership_updated import MembershipUpdatedV1
from contracts.schedule_tick import ScheduleTickV1
from contracts.webhook_received import WebhookReceivedV1
from contracts.wire import WireModel

Argument = str | int

RETRY_DELAY_MS: Final = 30_000
DELIVERY_LIMIT: Final = 20
# RabbitMQ 4 drops what a queue without a dead-letter exchange has delivered 20 times, and looking at what is parked is a
# delivery. -1 lifts the limit there but makes RabbitMQ 3.10 drop at the second delivery, so: a number nobody reaches.
PARKED_DELIVERY_LIMIT: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable topic exchange."""

    name: str
    kind: Literal["topic"] = "topic"
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue with the arguments it is declared with."""

    name: str
    arguments: Mapping[str, Argument]
    durable: bool = True


@dataclass(frozen=True, slots=True)
class QueueFamily:
    """A main queue, the queue its failures wait in for their retry, and the one where they end for a human to see."""

    main: Queue
    retry: Queue
    parked: Queue

    @property
    def queues(self) -> tuple[Queue, Queue, Queue]:
        """All three: the targets of dead-lettering come first, so that declaring in this order leaves no gap."""
        return (self.parked, self.retry, self.main)


def queue_family(name: str, *, retry_delay_ms: int = RETRY_DELAY_MS) -> QueueFamily:
    """The queues of one consumer: what it puts into retry returns after the delay; nothing leaves parked by itself.

    What main itself gives up on (rejected, or returned unanswered too often) goes to parked. It must not go to retry: from there
    back to main without a rejection is a cycle to RabbitMQ, which keeps such a message in retry for ever.
    Quorum queues that dead-letter at least once need `x-overflow=reject-publish`: without it RabbitMQ falls back to at most once.
    """
    return QueueFamily(
        main=Queue(
            name,
            MappingProxyType(
                {
                    "x-queue-type": "quorum",
                    "x-delivery-limit": DELIVERY_LIMIT,
                    "x-overflow": "reject-publish",
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": f"{name}.parked",
                    "x-dead-letter-strategy": "at-least-once",
                }
            ),
        ),
        retry=Queue(
            f"{name}.retry",
            MappingProxyType(
                {
                    "x-queue-type": "quorum",
                    "x-message-ttl": retry_delay_ms,
                    "x-overflow": "reject-publish",
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": name,
                    "x-dead-letter-strategy": "at-least-once",
                }
            ),
        ),
        parked=Queue(
            f"{name}.parked",
            MappingProxyType(
                {
                    "x-queue-type": "quorum",
                    "x-delivery-limit": PARKED_DELIVERY_LIMIT,
                    "x-overflow": "reject-publish",
                }
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class Channel:
    """One message on its way: what it is, where it is published, who sends it and who takes it.

    `routing_key` is a pattern whose `{names}` are ids; `queue` is None where subscribers bind queues of their own, and
    `consumed` is False while this version has no consumer, so that its queue is not declared and does not fill unread. A queue
    that is `bound_singly` takes only what somebody asked for, each value of the parameters by itself. Where `type_prefix` is given
    there is a `ce-type` for each kind, of which the body's `kind` says the rest.
    """

    message_type: str
    model: type[WireModel]
    summary: str
    direction: Literal["inbound", "outbound"]
    exchange: Exchange
    routing_key: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    examples: tuple[str, ...]
    queue: QueueFamily | None = None
    consumed: bool = True
    bound_singly: bool = False
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    version: int = 1
    type_prefix: str | None = None

    def type_of(self, kind: str | None) -> str:
        """The `ce-type` of a message, by its body's kind where it has one."""
        return self.message_type if self.type_prefix is None or kind is None else f"{self.type_prefix}{kind.upper()}"

    @property
    def binding_key(self) -> str:
        """What a queue binds to take every message of this channel: the routing key with `*` for each parameter."""
        return self.routing_key.format_map(dict.fromkeys(self.parameters, "*"))

    @property
    def schema_name(self) -> str:
        """The stem of the generated JSON Schema's file name."""
        return f"{self.message_type.lower()}.v{self.version}"


INBOUND: Final = Exchange("rollcall.inbound")
COMMANDS: Final = Exchange("rollcall.commands")
EVENTS: Final = Exchange("rollcall.events")
EXCHANGES: Final = (INBOUND, COMMANDS, EVENTS)

MEMBER_CHANGES: Final = queue_family("rollcall.member-changes")
TICKS: Final = queue_family("rollcall.ticks")
WEBHOOKS: Final = queue_family("rollcall.webhooks")
JOBS: Final = queue_family("rollcall.jobs")
NOTIFICATIONS: Final = queue_family("rollcall.notifications")

MEMBER_CHANGED: Final = Channel(
    message_type="MEMBER_CHANGED",
    model=MemberChangedV1,
    summary="A source says what one member is now, or that it has left.",
    direction="inbound",
    exchange=INBOUND,
    routing_key="member.changed",
    producers=("upstream directories", "rollcall publish"),
    consumers=("rollcall worker",),
    queue=MEMBER_CHANGES,
    examples=("full_upsert", "partial_upsert", "clearing_upsert", "removal", "unknown_fields"),
)
WEBHOOK_RECEIVED: Final = Channel(
    message_type="WEBHOOK_RECEIVED",
    model=WebhookReceivedV1,
    summary="A source's webhook came and its signature fits; as it came, to be mapped to a change of a member.",
    direction="inbound",
    exchange=INBOUND,
    routing_key="webhook.{connectionId}",
    parameters=MappingProxyType({"connectionId": "The connection's id, a UUID: no dots."}),
    producers=("rollcall edge",),
    consumers=("rollcall worker",),
    queue=WEBHOOKS,
    examples=("default_mapping", "nested_payload"),
)
SCHEDULE_TICK: Final = Channel(
    message_type="SCHEDULE_TICK",
    model=ScheduleTickV1,
    summary="It is time to look which schedules are due.",
    direction="inbound",
    exchange=COMMANDS,
    routing_key="schedule.tick",
    producers=("rollcall ticker", "cloud schedulers"),
    consumers=("rollcall worker",),
    queue=TICKS,
    examples=("own_form", "cloud_scheduler"),
)
JOB_REQUESTED: Final = Channel(
    message_type="JOB_REQUESTED",
    type_prefix="JOB_",
    model=JobRequestedV1,
    summary="A job is queued: the first worker that takes it runs it. The type names its kind, such as JOB_DIRECTORY_SYNC.",
    direction="inbound",
    exchange=COMMANDS,
    routing_key="job.{kind}",
    parameters=MappingProxyType({"kind": "The kind of job, such as directory_sync: small letters, digits and underscores."}),
    producers=("rollcall relay",),
    consumers=("rollcall worker",),
    queue=JOBS,
    examples=("directory_sync", "whole_installation"),
)
MEMBERSHIP_UPDATED: Final = Channel(
    message_type="MEMBERSHIP_UPDATED",
    model=MembershipUpdatedV1,
    summary="One member's standing or facts changed; exactly one event per member version, in order per member.",
    direction="outbound",
    exchange=EVENTS,
    routing_key="membership.updated.{companyId}",
    parameters=MappingProxyType({"companyId": "The company's id, a UUID: no dots."}),
    producers=("rollcall relay",),
    consumers=("rollcall worker, for companies that have subscribers", "others, each with a queue of its own"),
    queue=NOTIFICATIONS,
    bound_singly=True,
    examples=("new_member", "expiry", "removal", "local_member"),
)
MEMBERS_IMPORTED: Final = Channel(
    message_type="MEMBERS_IMPORTED",
    model=MembersImportedV1,
    summary="A first import stored new members, who have no event of their own; one for each batch.",
    direction="outbound",
    exchange=EVENTS,
    routing_key="members.imported.{companyId}",
    parameters=MappingProxyType({"companyId": "The company's id, a UUID: no dots."}),
    producers=("rollcall relay",),
    consumers=("subscribers, each with a queue of its own",),
    examples=("batch",),
)
DRIFT_PROMOTED: Final = Channel(
    message_type="DRIFT_PROMOTED",
    model=DriftPromotedV1,
    summary="A read model disagreed with its source in two consecutive runs; once, until a clean run.",
    direction="outbound",
    exchange=EVENTS,
    routing_key="drift.promoted",
    producers=("rollcall relay",),
    consumers=("subscribers, each with a queue of its own",),
    examples=("audit",),
)

CHANNELS: Final = (
    MEMBER_CHANGED,
    WEBHOOK_RECEIVED,
    SCHEDULE_TICK,
    JOB_REQUESTED,
    MEMBERSHIP_UPDATED,
    MEMBERS_IMPORTED,
    DRIFT_PROMOTED,
)


def webhook_routing_key(connection_id: UUID) -> str:
    """The routing key of a webhook of this connection."""
    return f"webhook.{connection_id}"


def member_changed_routing_key() -> str:
    """The routing key of every upstream change."""
    return MEMBER_CHANGED.routing_key


def schedule_tick_routing_key() -> str:
    """The routing key of every tick."""
    return SCHEDULE_TICK.routing_key


def job_routing_key(kind: str) -> str:
    """The routing key of a job; raises ValueError for what is no kind."""
    if len(kind) > MAX_KIND or not re.fullmatch(KIND_PATTERN.rstrip("$"), kind):
        message = f"a job kind is a small letter, then small letters, digits and underscores, {MAX_KIND} at most"
        raise ValueError(message)
    return f"job.{kind}"


def membership_updated_routing_key(company_id: UUID) -> str:
    """The routing key of the events of this company."""
    return f"membership.updated.{company_id}"


def members_imported_routing_key(company_id: UUID) -> str:
    """The routing key of this company's first imports."""
    return f"members.imported.{company_id}"


def drift_promoted_routing_key() -> str:
    """The routing key of every promotion."""
    return DRIFT_PROMOTED.routing_key
