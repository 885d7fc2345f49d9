"""Every name of spans and of their attributes, by OpenTelemetry's semantic conventions where these have one."""

from __future__ import annotations

from typing import Final

# Spans

TRACER: Final = "rollcall"

WEBHOOK_ROUTE: Final = "/webhooks/{connection_id}"
CRON_ROUTE: Final = "/api/cron"
# Of a request for which there is no route, whatever its path.
NO_ROUTE: Final = "no route"
APPLY_CHANGES: Final = "apply changes"
ENQUEUE_DELIVERIES: Final = "enqueue deliveries"
NOTIFY_SUBSCRIBER: Final = "notify subscriber"
RELAY_WINDOW: Final = "relay window"
# A statement that stands in no file of the store, such as a driver's own.
OTHER_STATEMENT: Final = "other statement"
BEGIN: Final = "BEGIN"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"
SET: Final = "SET"

# What a request's method may be called; others are told by nobody's names.
HTTP_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
OTHER_HTTP_METHOD: Final = "_OTHER"


def request_span(method: str, route: str) -> str:
    """A request that is answered; `route` is its pattern, never its path."""
    return f"{method if method in HTTP_METHODS else 'HTTP'} {route}"


def send_span(exchange: str) -> str:
    """A message that is published."""
    return f"send {exchange}"


def process_span(queue: str) -> str:
    """A message that is handled."""
    return f"process {queue}"


def job_span(kind: str) -> str:
    """One attempt of a job."""
    return f"job {kind}"


def statement_span(table: str, query: str) -> str:
    """A statement, by the names that `store/sql/<table>.sql` gives it; also its `db.query.summary`."""
    return f"{table}.{query}"


# Attributes of spans: the conventions' own

ERROR_TYPE: Final = "error.type"

HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS_CODE: Final = "http.response.status_code"
URL_SCHEME: Final = "url.scheme"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_ROUTING_KEY: Final = "messaging.rabbitmq.destination.routing_key"
MESSAGING_DELIVERY_TAG: Final = "messaging.rabbitmq.message.delivery_tag"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_CONVERSATION_ID: Final = "messaging.message.conversation_id"
MESSAGING_BODY_SIZE: Final = "messaging.message.body.size"
MESSAGING_BATCH_COUNT: Final = "messaging.batch.message_count"

DB_SYSTEM: Final = "db.system.name"
DB_COLLECTION: Final = "db.collection.name"
DB_OPERATION: Final = "db.operation.name"
DB_QUERY_SUMMARY: Final = "db.query.summary"

# Attributes of spans: Rollcall's own

JOB_ID: Final = "rollcall.job.id"
JOB_KIND: Final = "rollcall.job.kind"
JOB_ATTEMPT: Final = "rollcall.job.attempt"
CONNECTION_ID: Final = "rollcall.connection.id"
SUBSCRIBER_ID: Final = "rollcall.subscriber.id"
DELIVERY_ID: Final = "rollcall.delivery.id"
DELIVERY_ATTEMPT: Final = "rollcall.delivery.attempt"
# How many jobs a tick enqueued.
SCHEDULES_BEGUN: Final = "rollcall.schedules.begun"
CORRELATION_ID: Final = "rollcall.correlation.id"
# How often the broker took the message back unanswered, and how often handling it had failed before.
RETURNS: Final = "rollcall.message.returns"
FAILED_ATTEMPTS: Final = "rollcall.message.failed_attempts"
# What became of a change: applied, unchanged, duplicate, stale, conflict, refused; or `ignored`, where a webhook means none.
# Of a job's message: `begun`, or `ignored` where the job is another's. Of its attempt: the state in which the job ended,
# `requeued` or `lost`.
OUTCOME: Final = "rollcall.outcome"
# Statements that were run beyond those that have spans.
STATEMENTS_OMITTED: Final = "rollcall.statements.omitted"

# Values of attributes

RABBITMQ: Final = "rabbitmq"
POSTGRESQL: Final = "postgresql"
SEND: Final = "send"
PROCESS: Final = "process"
IGNORED: Final = "ignored"
BEGUN: Final = "begun"
# Another attempt follows, or another worker has the job.
REQUEUED: Final = "requeued"
LOST: Final = "lost"
POST: Final = "POST"
TIMEOUT: Final = "timeout"
UNCONFIRMED: Final = "unconfirmed"
# The client went away before it had its answer.
DISCONNECTED: Final = "disconnected"
