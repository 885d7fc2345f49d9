"""Contract to domain and back; pure."""

from service.translation.changes import REMOVAL_HASH, Snapshot, to_change, to_mapped_change, to_snapshot_change
from service.translation.drift import Promotion, to_drift_promoted
from service.translation.messages import (
    WebhookMessage,
    event_id,
    to_job_requested,
    to_member_event,
    to_members_imported,
    to_membership_updated,
    to_replayed_event,
    to_webhook_received,
)
from service.translation.notifications import Notification, to_heard, to_notification, to_test_notification, to_told

__all__ = [
    "REMOVAL_HASH",
    "Notification",
    "Promotion",
    "Snapshot",
    "WebhookMessage",
    "event_id",
    "to_change",
    "to_drift_promoted",
    "to_heard",
    "to_job_requested",
    "to_mapped_change",
    "to_member_event",
    "to_members_imported",
    "to_membership_updated",
    "to_notification",
    "to_replayed_event",
    "to_snapshot_change",
    "to_test_notification",
    "to_told",
    "to_webhook_received",
]
