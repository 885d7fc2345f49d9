"""For each alert: series under which it fires within twenty minutes, and series under which not; a sample each 15 seconds."""

from __future__ import annotations

from typing import Final

Series = dict[str, str]

ALL_ROLES: Final[Series] = {f'rollcall_role_info{{role="{role}"}}': "1x80" for role in ("worker", "relay", "edge")}
WEBHOOKS: Final = 'rollcall_webhook_duration_seconds_count{status="%s"}'
FORGED: Final = 'rollcall_webhooks_refused_total{status="401",cause="mismatch"}'
PARKED: Final = 'rollcall_queue_messages{queue="rollcall.webhooks",part="%s"}'
RETRIED: Final = 'rollcall_message_duration_seconds_count{queue="rollcall.webhooks",outcome="%s"}'
APPLIED: Final = 'rollcall_apply_duration_seconds_count{outcome="%s"}'
UP: Final = 'up{job="rollcall",role="worker",instance="a"}'
DATABASE: Final = 'rollcall_dependency_up{dependency="database",used_by="worker",instance="%s"}'
CONSUMERS: Final = 'rollcall_queue_consumers{queue="rollcall.webhooks"}'
PROMOTED: Final = 'read_model_reconciliation_promotions_total{read_model="audit",mode="full"}'
GIVEN_UP: Final = 'rollcall_notifications_ended_total{outcome="%s"}'
DISABLED: Final = 'rollcall_subscribers_disabled_total{because="failing"}'
LOOKED: Final = 'rollcall_backlog_looked_at_timestamp_seconds{source="database"}'

CASES: Final[dict[str, tuple[Series, Series]]] = {
    "RollcallRoleMissing": ({name: values for name, values in ALL_ROLES.items() if "relay" not in name}, ALL_ROLES),
    "RollcallProcessDown": ({UP: "1x20 0x60"}, {UP: "1x20 0x4 1x60"}),
    "RollcallDependencyDown": (
        {DATABASE % "a": "1x80", DATABASE % "b": "0x80"},
        {DATABASE % "a": "1x80", DATABASE % "b": "0x2 1x78"},
    ),
    "RollcallWebhooksNotTaken": (
        {WEBHOOKS % "202": "0+90x80", WEBHOOKS % "503": "0+10x80"},
        {WEBHOOKS % "202": "0+2000x80", WEBHOOKS % "503": "0+10x80"},
    ),
    "RollcallWebhooksForged": ({FORGED: "0+30x80"}, {FORGED: "0+10x80"}),
    "RollcallMessagesParked": ({PARKED % "parked": "3x80"}, {PARKED % "parked": "0x80", PARKED % "retry": "3x80"}),
    "RollcallMessagesRetried": ({RETRIED % "retried": "0+15x80"}, {RETRIED % "retried": "0+1x80", RETRIED % "acked": "0+150x80"}),
    "RollcallQueueGrows": ({PARKED % "main": "1000+100x80"}, {PARKED % "main": "9000-100x80"}),
    "RollcallNobodyConsumes": ({CONSUMERS: "0x80"}, {CONSUMERS: "1x80"}),
    "RollcallApplyFails": ({APPLIED % "failed": "0+1x80"}, {APPLIED % "failed": "0x80", APPLIED % "committed": "0+100x80"}),
    "RollcallOutboxOld": (
        {"rollcall_outbox_oldest_age_seconds": "0+15x80", "rollcall_outbox_messages": "5x80"},
        {"rollcall_outbox_oldest_age_seconds": "2x80", "rollcall_outbox_messages": "100000x80"},
    ),
    "RollcallEventsRefused": ({"rollcall_outbox_blocked_keys": "1x80"}, {"rollcall_outbox_blocked_keys": "0x80"}),
    "RollcallBucketsUnowned": ({"rollcall_leases_unowned_buckets": "32x80"}, {"rollcall_leases_unowned_buckets": "32x2 0x80"}),
    "RollcallBacklogUnseen": ({LOOKED: "0x80"}, {LOOKED: "0+15x80"}),
    "RollcallNotificationsLate": (
        {"rollcall_notifications_overdue_seconds": "0+15x80"},
        {"rollcall_notifications_overdue_seconds": "20x80"},
    ),
    "RollcallNotificationsGivenUp": (
        {GIVEN_UP % "exhausted": "0x20 1x60"},
        {GIVEN_UP % "exhausted": "1x80", GIVEN_UP % "delivered": "0+100x80"},
    ),
    "RollcallSubscriberDisabled": ({DISABLED: "0x40 1x40"}, {DISABLED: "1x80"}),
    "RollcallReadModelDrifts": ({PROMOTED: "0x40 1x40"}, {PROMOTED: "1x80"}),
}
