"""Every metric in one place, as data: its name, what it tells, its labels and its bounds.

A process exposes the metrics of its stages. Labels take few values, which stand here or are named in the comment beside them: never
an id, an address or anything else that grows with the members or comes from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class Stage(StrEnum):
    """The part of the way that a metric tells of."""

    PROCESS = "process"
    WEBHOOKS = "webhooks"
    ADMIN = "admin"
    MESSAGES = "messages"
    APPLY = "apply"
    JOBS = "jobs"
    NOTIFY = "notify"
    RELAY = "relay"
    BACKLOG = "backlog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric as it is exposed; `values` are those of its labels where they are known beforehand, and these start at zero."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    stage: Stage
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    # Upper bounds of a histogram, in the unit that its name ends with.
    buckets: tuple[float, ...] = ()


_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_LONG_SECONDS: Final = (*_SECONDS, 60, 300, 1800, 7200)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500)

BUILD_INFO: Final = Metric(
    name="rollcall_build_info",
    kind="gauge",
    stage=Stage.PROCESS,
    help="Always 1; the release that this process runs.",
    labels=("version",),
)
ROLE_INFO: Final = Metric(
    name="rollcall_role_info",
    kind="gauge",
    stage=Stage.PROCESS,
    help="Always 1, for each role of this process.",
    labels=("role",),
)
DEPENDENCY_UP: Final = Metric(
    name="rollcall_dependency_up",
    kind="gauge",
    stage=Stage.PROCESS,
    help="Whether what a part of this process needs answered when it was last used: 1 or 0.",
    # database, broker, notifications; worker, edge, relay and the relay's loops that can fail by themselves.
    labels=("dependency", "used_by"),
)

WEBHOOK_DURATION: Final = Metric(
    name="rollcall_webhook_duration_seconds",
    kind="histogram",
    stage=Stage.WEBHOOKS,
    help="Webhooks answered, by HTTP status: from the request's headers to the answer, the broker's confirm included.",
    labels=("status",),
    # Others than this come as they occur; what a refusal was for is in the next one.
    values=(("202",),),
    buckets=_SECONDS,
)
WEBHOOKS_REFUSED: Final = Metric(
    name="rollcall_webhooks_refused_total",
    kind="counter",
    stage=Stage.WEBHOOKS,
    help="Webhooks not taken, by HTTP status and cause; 499 is a client that was gone before it could be answered.",
    # The pairs below; of 401 the causes are those of service/domain/webhooks/signatures.py.
    labels=("status", "cause"),
    values=(
        ("400", "no_json_object"),
        ("404", "unknown_connection"),
        ("405", "method"),
        ("408", "too_slow"),
        ("413", "too_large"),
        ("415", "media_type"),
        ("429", "address_limit"),
        ("429", "source_limit"),
        ("499", "client_gone"),
        ("503", "busy"),
        ("503", "database_away"),
        ("503", "nacked"),
        ("503", "no_secret"),
        ("503", "not_confirmed"),
        ("503", "refused"),
        ("503", "returned"),
    ),
)

ADMIN_DURATION: Final = Metric(
    name="rollcall_admin_request_duration_seconds",
    kind="histogram",
    stage=Stage.ADMIN,
    help="Requests to the admin API, by route with its method and by HTTP status: from the headers to the answer's last byte.",
    # `GET` and others with the patterns of the routes, or with `no route`; 499 is a client that was gone.
    labels=("route", "status"),
    buckets=_SECONDS,
)

MESSAGE_DURATION: Final = Metric(
    name="rollcall_message_duration_seconds",
    kind="histogram",
    stage=Stage.MESSAGES,
    help="Messages consumed, by queue and what became of them: from delivery to the end of handling, the commit included.",
    # The main queues of the consumers; acked, retried, parked, rejected (the broker parks it), returned (given back unanswered).
    labels=("queue", "outcome"),
    buckets=_SECONDS,
)

CHANGES: Final = Metric(
    name="rollcall_changes_total",
    kind="counter",
    stage=Stage.APPLY,
    help="Changes of members, by outcome.",
    labels=("outcome",),
    values=(("applied",), ("unchanged",), ("duplicate",), ("stale",), ("conflict",), ("refused",)),
)
APPLY_BATCH_SIZE: Final = Metric(
    name="rollcall_apply_batch_changes",
    kind="histogram",
    stage=Stage.APPLY,
    help="Changes applied together, in one call of the apply path.",
    buckets=_SIZES,
)
APPLY_DURATION: Final = Metric(
    name="rollcall_apply_duration_seconds",
    kind="histogram",
    stage=Stage.APPLY,
    help="One call of the apply path, by how it ended: from the first statement to the commit, its retries and splits included.",
    labels=("outcome",),
    values=(("committed",), ("unavailable",), ("failed",)),
    buckets=_SECONDS,
)
APPLY_RETRIES: Final = Metric(
    name="rollcall_apply_contention_retries_total",
    kind="counter",
    stage=Stage.APPLY,
    help="Transactions of the apply path that were run again because another one was in the way.",
)
APPLY_SPLITS: Final = Metric(
    name="rollcall_apply_splits_total",
    kind="counter",
    stage=Stage.APPLY,
    help="Batches that were split in two, to find the change whose data the database refuses or to keep apart what is entangled.",
)

JOB_DURATION: Final = Metric(
    name="rollcall_job_duration_seconds",
    kind="histogram",
    stage=Stage.JOBS,
    help="Attempts of jobs that ended here, by kind and what became of them: requeued is a retry or given back, lost is another's.",
    # The kinds of wiring; succeeded, partial, failed, quarantined, cancelled, requeued, lost.
    labels=("kind", "outcome"),
    buckets=_LONG_SECONDS,
)
JOBS_RUNNING: Final = Metric(
    name="rollcall_jobs_running",
    kind="gauge",
    stage=Stage.JOBS,
    help="Jobs that this process runs.",
)
JOBS_HANDED_ON: Final = Metric(
    name="rollcall_jobs_handed_on_total",
    kind="counter",
    stage=Stage.JOBS,
    help="Jobs handed on: abandoned by a worker that went silent, or after a wait, for their retry or for a message that was lost.",
    labels=("after",),
    values=(("abandoned",), ("wait",)),
)

# The harness has names that others know it by, and keeps them: they have no prefix of ours. The kinds of read model, of which there
# may be several each; sampled, full.
_READ_MODEL: Final = ("read_model", "mode")
_READ_MODELS: Final = tuple((family, mode) for family in ("audit", "directory") for mode in ("sampled", "full"))
DRIFT_SAMPLES: Final = Metric(
    name="read_model_reconciliation_samples_total",
    kind="counter",
    stage=Stage.JOBS,
    help="Keys of read models that were compared with their source.",
    labels=_READ_MODEL,
    values=_READ_MODELS,
)
DRIFT_FOUND: Final = Metric(
    name="read_model_reconciliation_drift_total",
    kind="counter",
    stage=Stage.JOBS,
    help="Keys of read models that were compared and out of sync.",
    labels=_READ_MODEL,
    values=_READ_MODELS,
)
DRIFT_BREACHES: Final = Metric(
    name="read_model_reconciliation_breaches_total",
    kind="counter",
    stage=Stage.JOBS,
    help="Runs in which more than one key in a thousand was out of sync.",
    labels=_READ_MODEL,
    values=_READ_MODELS,
)
DRIFT_PROMOTIONS: Final = Metric(
    name="read_model_reconciliation_promotions_total",
    kind="counter",
    stage=Stage.JOBS,
    help="Runs that made a streak of breaches long enough to be told of: DRIFT_PROMOTED.",
    labels=_READ_MODEL,
    values=_READ_MODELS,
)
DRIFT_DURATION: Final = Metric(
    name="read_model_reconciliation_duration_seconds",
    kind="histogram",
    stage=Stage.JOBS,
    help="Runs that compared a read model with its source, to their verdict.",
    labels=_READ_MODEL,
    values=_READ_MODELS,
    buckets=_LONG_SECONDS,
)

NOTIFICATION_DURATION: Final = Metric(
    name="rollcall_notification_attempt_duration_seconds",
    kind="histogram",
    stage=Stage.NOTIFY,
    help="Attempts to tell a subscriber of an event, by what came of them: gone is an answer of 410.",
    labels=("outcome",),
    values=(("delivered",), ("failed",), ("gone",)),
    buckets=_SECONDS,
)
NOTIFICATIONS_ENDED: Final = Metric(
    name="rollcall_notifications_ended_total",
    kind="counter",
    stage=Stage.NOTIFY,
    help="Notifications that came to their end: the subscriber has them, or all attempts failed.",
    labels=("outcome",),
    values=(("delivered",), ("exhausted",)),
)
SUBSCRIBERS_DISABLED: Final = Metric(
    name="rollcall_subscribers_disabled_total",
    kind="counter",
    stage=Stage.NOTIFY,
    help="Subscribers that are called no more: gone said so, failing did not answer as it should for 120 hours.",
    labels=("because",),
    values=(("gone",), ("failing",)),
)

SCAN_PARTS: Final = Metric(
    name="rollcall_scan_part_duration_seconds",
    kind="histogram",
    stage=Stage.JOBS,
    help="One provider's part of a scan, by how it ended: waiting is for another attempt.",
    # The providers that are installed, or unknown; succeeded, waiting, failed.
    labels=("provider", "outcome"),
    buckets=_LONG_SECONDS,
)
SCAN_FINDINGS: Final = Metric(
    name="rollcall_scan_findings_total",
    kind="counter",
    stage=Stage.JOBS,
    help="Findings that are new, or that their provider no longer finds.",
    # As above; opened, resolved.
    labels=("provider", "change"),
)

RELAY_EVENTS: Final = Metric(
    name="rollcall_relay_events_total",
    kind="counter",
    stage=Stage.RELAY,
    help="Events offered to the broker, by its word on each; all but the confirmed stay in the outbox.",
    labels=("outcome",),
    values=(("confirmed",), ("returned",), ("nacked",), ("refused",), ("unknown",)),
)
RELAY_WINDOW_SIZE: Final = Metric(
    name="rollcall_relay_window_messages",
    kind="histogram",
    stage=Stage.RELAY,
    help="Events offered together.",
    buckets=_SIZES,
)
RELAY_WINDOW_DURATION: Final = Metric(
    name="rollcall_relay_window_duration_seconds",
    kind="histogram",
    stage=Stage.RELAY,
    help="One window, by part: claim is the database's time to hand out its rows, publish is the broker's to say its word on all.",
    labels=("part",),
    values=(("claim",), ("publish",)),
    buckets=_SECONDS,
)
RELAY_DELAY: Final = Metric(
    name="rollcall_relay_delay_seconds",
    kind="histogram",
    stage=Stage.RELAY,
    help="Confirmed events: from the change's time to the confirm. The former is the database's clock, the latter this host's.",
    buckets=_LONG_SECONDS,
)
RELAY_BUCKETS: Final = Metric(
    name="rollcall_relay_buckets_owned",
    kind="gauge",
    stage=Stage.RELAY,
    help="Buckets of the outbox, of 64, that this process owns.",
)
RELAY_LEASES: Final = Metric(
    name="rollcall_relay_lease_changes_total",
    kind="counter",
    stage=Stage.RELAY,
    help="Buckets that this process took while free, took over from a holder whose lease ran out, gave back, or lost to another.",
    labels=("change",),
    values=(("taken",), ("taken_over",), ("released",), ("lost",)),
)

OUTBOX_MESSAGES: Final = Metric(
    name="rollcall_outbox_messages",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="Events that wait in the outbox, counted up to 100,000: that value means so many or more.",
)
OUTBOX_AGE: Final = Metric(
    name="rollcall_outbox_oldest_age_seconds",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="How long the event with the lowest id has waited in the outbox; 0 when it is empty.",
)
OUTBOX_BLOCKED: Final = Metric(
    name="rollcall_outbox_blocked_keys",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="Members whose events wait behind one that the broker did not take, counted up to 100,000.",
)
LEASES_RELAYS: Final = Metric(
    name="rollcall_leases_live_relays",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="Relays that live, by their leases in the database.",
)
LEASES_UNOWNED: Final = Metric(
    name="rollcall_leases_unowned_buckets",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="Buckets of the outbox that no relay owns.",
)
NOTIFICATIONS_WAITING: Final = Metric(
    name="rollcall_waiting_notifications",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="Notifications that have not ended, those of paused and disabled subscribers among them, counted up to 100,000.",
)
NOTIFICATIONS_OVERDUE: Final = Metric(
    name="rollcall_notifications_overdue_seconds",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="For how long the longest due notification waits to be sent, of subscribers that do not fail; 0 where none is due.",
)
SUBSCRIBERS_FAILING: Final = Metric(
    name="rollcall_failing_subscribers",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="Subscribers that are called and whose last attempts failed.",
)
QUEUE_MESSAGES: Final = Metric(
    name="rollcall_queue_messages",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="Messages ready in a queue, those that a consumer holds not counted; part is main, retry or parked.",
    # The main queues of the consumers; main, retry, parked.
    labels=("queue", "part"),
)
QUEUE_CONSUMERS: Final = Metric(
    name="rollcall_queue_consumers",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="Consumers of a main queue, in all processes.",
    labels=("queue",),
)
BACKLOG_LOOKED_AT: Final = Metric(
    name="rollcall_backlog_looked_at_timestamp_seconds",
    kind="gauge",
    stage=Stage.BACKLOG,
    help="When the source was last looked at, in seconds since 1970; while it cannot be seen none of its gauges is exposed.",
    # database (outbox, leases), broker (queues).
    labels=("source",),
)

METRICS: Final[tuple[Metric, ...]] = (
    BUILD_INFO,
    ROLE_INFO,
    DEPENDENCY_UP,
    WEBHOOK_DURATION,
    WEBHOOKS_REFUSED,
    ADMIN_DURATION,
    MESSAGE_DURATION,
    CHANGES,
    APPLY_BATCH_SIZE,
    APPLY_DURATION,
    APPLY_RETRIES,
    APPLY_SPLITS,
    JOB_DURATION,
    JOBS_RUNNING,
    JOBS_HANDED_ON,
    DRIFT_SAMPLES,
    DRIFT_FOUND,
    DRIFT_BREACHES,
    DRIFT_PROMOTIONS,
    DRIFT_DURATION,
    NOTIFICATION_DURATION,
    NOTIFICATIONS_ENDED,
    SUBSCRIBERS_DISABLED,
    SCAN_PARTS,
    SCAN_FINDINGS,
    RELAY_EVENTS,
    RELAY_WINDOW_SIZE,
    RELAY_WINDOW_DURATION,
    RELAY_DELAY,
    RELAY_BUCKETS,
    RELAY_LEASES,
    OUTBOX_MESSAGES,
    OUTBOX_AGE,
    OUTBOX_BLOCKED,
    LEASES_RELAYS,
    LEASES_UNOWNED,
    NOTIFICATIONS_WAITING,
    NOTIFICATIONS_OVERDUE,
    SUBSCRIBERS_FAILING,
    QUEUE_MESSAGES,
    QUEUE_CONSUMERS,
    BACKLOG_LOOKED_AT,
)
