from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

COMPANY, OTHER_COMPANY = "00000000-0000-0000-0000-0000000000c1", "00000000-0000-0000-0000-0000000000c2"
CONNECTION, OTHER_CONNECTION = "00000000-0000-0000-0000-0000000000d1", "00000000-0000-0000-0000-0000000000d2"
MEMBER, KEY, JOB = "00000000-0000-0000-0000-0000000000e1", "f1" * 16, "f2" * 16

GONE = {"upstream_state": "'removed'", "state": "'removed'", "removed_at": "now()"}

# One valid row of each table; a case names what it changes.
ROWS: dict[str, dict[str, str]] = {
    "companies": {"id": "gen_random_uuid()", "name": "'Another'", "grace_days": "7"},
    "connections": {
        "company_id": f"'{COMPANY}'",
        "name": "'another'",
        "kind": "'stream'",
        "version_kind": "'sequence'",
        "mapped_fields": "array['name', 'plan']",
    },
    "members": {
        "id": "gen_random_uuid()",
        "company_id": f"'{COMPANY}'",
        "connection_id": f"'{CONNECTION}'",
        "external_id": "'new'",
        "name": "'Anna'",
        "upstream_state": "'active'",
        "state": "'active'",
        "version": "1",
    },
    "member_events": {
        "member_id": f"'{MEMBER}'",
        "version": "2",
        "company_id": f"'{COMPANY}'",
        "occurred_at": "now()",
        "reason_code": "'ADMIN'",
        "new_state": "'active'",
        "changed_fields": "array['state']",
        "before": "'{}'",
        "after": "'{}'",
        "actor": "'test'",
        "correlation_id": "'run'",
    },
    "inbox": {"connection_id": f"'{CONNECTION}'", "source": "'tests'", "message_id": "'2'"},
    "outbox": {
        "order_key": f"'{KEY}'",
        "exchange": "'e'",
        "routing_key": "'r'",
        "type": "'t'",
        "message_id": "'m'",
        "correlation_id": "'c'",
        "headers": "'{}'",
        "body": "'{}'",
        "occurred_at": "now()",
    },
    "leases": {"resource": "'another'"},
    "api_keys": {
        "id": "gen_random_uuid()",
        "company_id": f"'{COMPANY}'",
        "name": "'a key'",
        "sha256": "sha256('')",
        "scopes": "array['read', 'admin']",
        "created_by": "'operator'",
    },
    "idempotency_keys": {
        "principal": "'operator'",
        "key": "'another'",
        "fingerprint": "''",
        "status": "201",
        "headers": "'{}'",
        "body": "''",
    },
    "admin_events": {
        "company_id": f"'{COMPANY}'",
        "actor": "'operator'",
        "action": "'key.issued'",
        "subject_kind": "'key'",
        "subject_id": "gen_random_uuid()",
        "correlation_id": "'run'",
    },
    "secret_grants": {"company_id": f"'{COMPANY}'", "reference": "'env:ROLLCALL_SECRET_ANOTHER'"},
    "webhooks": {"connection_id": f"'{OTHER_CONNECTION}'", "company_id": f"'{COMPANY}'", "scheme": "'github'"},
    "webhook_secrets": {"connection_id": f"'{CONNECTION}'", "company_id": f"'{COMPANY}'", "reference": "'file:granted'"},
    "rate_limits": {"bucket": "'another'", "tokens": "0", "granted": "0", "refilled_at": "now()"},
    "lone_attempts": {"message": r"'\x02'", "unfinished": "1"},
    "jobs": {
        "id": "gen_random_uuid()",
        "company_id": f"'{COMPANY}'",
        "kind": "'scan'",
        "subject_id": "gen_random_uuid()",
        "requested_by": "'tests'",
        "correlation_id": "'run'",
        "state": "'queued'",
        "resend_at": "now()",
    },
    "sync_log": {
        "job_id": f"'{KEY}'",
        "company_id": f"'{COMPANY}'",
        "connection_id": f"'{CONNECTION}'",
        "type": "'manual'",
        "mode": "'full'",
        "dry_run": "false",
        "baseline": "false",
        "status": "'success'",
        "finished_at": "now()",
        "correlation_id": "'run'",
    },
    "plan_changes": {
        "member_id": f"'{MEMBER}'",
        "company_id": f"'{COMPANY}'",
        "change_type": "'APPLIED'",
        "plan": "'gold'",
        "effective_date_day": "'2026-11-23'",
        "actor": "'tests'",
        "correlation_id": "'run'",
    },
    "drift_runs": {
        "job_id": f"'{KEY}'",
        "read_model": "'another'",
        "mode": "'full'",
        "finished_at": "now()",
        "verdict": "'clean'",
        "correlation_id": "'run'",
    },
    "drift_findings": {"run_id": f"'{KEY}'", "key": "'another'", "what": "'drift'", "reason": "'state'"},
    "drift_streaks": {"read_model": "'another'"},
    "schedules": {
        "company_id": f"'{COMPANY}'",
        "kind": "'scan'",
        "subject_id": "gen_random_uuid()",
        "interval_ms": "60000",
        "next_run_at": "now()",
    },
    "subscribers": {
        "id": "gen_random_uuid()",
        "company_id": f"'{COMPANY}'",
        "name": "'another'",
        "url": "'https://lists.example/'",
        "state_changed_by": "'operator'",
        "created_by": "'operator'",
    },
    "subscriber_secrets": {"subscriber_id": f"'{KEY}'", "company_id": f"'{COMPANY}'", "reference": "'file:granted'"},
    "deliveries": {
        "subscriber_id": f"'{KEY}'",
        "member_id": f"'{MEMBER}'",
        "version": "2",
        "in_order": "false",
        "state": "'pending'",
        "due_at": "now()",
        "correlation_id": "'run'",
    },
    "delivery_attempts": {
        "delivery_id": "1000",
        "number": "2",
        "started_at": "now()",
        "duration": "interval '1 second'",
        "outcome": "'delivered'",
        "status": "200",
    },
    "notification_sweep": {"only_one": "true", "swept_to": "0"},
    "scans": {"job_id": f"'{JOB}'", "company_id": f"'{COMPANY}'", "members": "0", "correlation_id": "'run'"},
    "scan_parts": {"scan_id": f"'{KEY}'", "provider": "'another'", "state": "'running'"},
    "findings": {
        "id": "gen_random_uuid()",
        "company_id": f"'{COMPANY}'",
        "member_id": f"'{MEMBER}'",
        "provider": "'duplicates'",
        "kind": "'another'",
        "key": "''",
        "severity": "'low'",
        "detail": "'{}'",
        "first_scan": "1",
        "last_scan": "2",
    },
    "sync_entries": {"log_id": f"'{KEY}'", "what": "'added'"},
    "sync_pages": {
        "job_id": f"'{KEY}'",
        "reading": "1",
        "records": "1",
        "keys": "'a'",
        "hashes": "decode(repeat('00', 16), 'hex')",
    },
    "sync_staging": {"job_id": f"'{KEY}'", "external_id": "'a'", "source_hash": "''", "content": "''"},
    "sync_delta": {"job_id": f"'{KEY}'", "place": "2", "what": "'added'", "was_live": "false"},
}
PLANNED = {"pending_plan": "'gold'", "pending_start": "current_date"}
OPEN_RUN = {"status": "'pending'", "finished_at": "null"}
OPEN_QUARANTINE = {"status": "'quarantined'"}
REVIEWED = {"review": "'approved'", "reviewed_at": "now()", "reviewed_by": "'somebody'"}
ENDED = {"resend_at": "null", "finished_at": "now()"}
LEASED = {"resend_at": "null", "lease_holder": "gen_random_uuid()", "lease_expires_at": "now()"}
BEGUN = {"attempts": "1", "started_at": "now()", "heartbeat_at": "now()"}

FAILED_PART = {"state": "'failed'", "finished_at": "now()", "error": "'why'"}
RESOLVED_FINDING = {"state": "'resolved'", "resolved_at": "now()", "resolution": "'not_found'"}
ENDED_DELIVERY = {"state": "'delivered'", "due_at": "null", "finished_at": "now()"}

# constraint -> the table and what breaks it
BROKEN: dict[str, tuple[str, dict[str, str]]] = {
    "pending_dates_are_finite": ("members", {"pending_plan": "'gold'", "pending_start": "'infinity'"}),
    "pending_dates_are_of_a_pending_plan": ("members", {"pending_expires_at": "now()"}),
    "pending_plan_has_a_name": ("members", {"pending_plan": "''", "pending_start": "current_date"}),
    "plan_changes_actor_check": ("plan_changes", {"actor": "''"}),
    "plan_changes_applied": ("plan_changes", {"effective_date_day": "'2026-11-22'"}),
    "plan_changes_change_type_check": ("plan_changes", {"change_type": "'REVERTED'"}),
    "plan_changes_company_id_fkey": ("plan_changes", {"company_id": "gen_random_uuid()"}),
    "plan_changes_effective_date_day_check": ("plan_changes", {"effective_date_day": "'infinity'"}),
    "plan_changes_expires_at_check": ("plan_changes", {"expires_at": "'infinity'"}),
    "plan_changes_member_id_fkey": ("plan_changes", {"member_id": "gen_random_uuid()"}),
    "plan_changes_pkey": ("plan_changes", {"id": "1000"}),
    "plan_changes_plan_check": ("plan_changes", {"plan": "''"}),
    "drift_counts_count": ("drift_runs", {"compared": "1", "out_of_sync": "2"}),
    "drift_findings_pkey": ("drift_findings", {"key": "'known'"}),
    "drift_findings_reason_check": ("drift_findings", {"reason": "''"}),
    "drift_findings_run_id_fkey": ("drift_findings", {"run_id": "gen_random_uuid()"}),
    "drift_findings_what_check": ("drift_findings", {"what": "'guess'"}),
    "drift_runs_by_job": ("drift_runs", {"read_model": "'audit'"}),
    "drift_runs_error_check": ("drift_runs", {"error": "''"}),
    "drift_runs_job_id_fkey": ("drift_runs", {"job_id": "gen_random_uuid()"}),
    "drift_runs_mode_check": ("drift_runs", {"mode": "'some'"}),
    "drift_runs_pkey": ("drift_runs", {"id": f"'{KEY}'"}),
    "drift_runs_read_model_check": ("drift_runs", {"read_model": "''"}),
    "drift_runs_verdict_check": ("drift_runs", {"verdict": "'fine'"}),
    "drift_streaks_breaches_check": ("drift_streaks", {"breaches": "-1"}),
    "drift_streaks_pkey": ("drift_streaks", {"read_model": "'audit'"}),
    "finished_is_judged": ("drift_runs", {"verdict": "null"}),
    "only_breaches_are_promoted": ("drift_runs", {"promoted": "true"}),
    "promoted_after_breaches": ("drift_streaks", {"promoted": "true"}),
    "cron_expressions_have_a_time_zone": ("schedules", {"interval_ms": "null", "cron": "'0 0 * * *'"}),
    "either_an_interval_or_a_cron_expression": ("schedules", {"interval_ms": "null"}),
    "schedules_by_subject": ("schedules", {"company_id": "null", "kind": "'expiry'", "subject_id": "null"}),
    "schedules_company_id_fkey": ("schedules", {"company_id": "gen_random_uuid()"}),
    "schedules_cron_check": ("schedules", {"interval_ms": "null", "cron": "''", "time_zone": "'UTC'"}),
    "schedules_interval_ms_check": ("schedules", {"interval_ms": "999"}),
    "schedules_kind_check": ("schedules", {"kind": "'unheard_of'"}),
    "schedules_last_run_at_check": ("schedules", {"last_run_at": "'infinity'"}),
    "schedules_next_run_at_check": ("schedules", {"next_run_at": "'-infinity'"}),
    "schedules_of_companies_have_a_subject": ("schedules", {"subject_id": "null"}),
    "schedules_parameters_check": ("schedules", {"parameters": "'[]'"}),
    "schedules_pkey": ("schedules", {"id": f"'{KEY}'"}),
    "schedules_skipped_check": ("schedules", {"skipped": "-1"}),
    "schedules_time_zone_check": ("schedules", {"interval_ms": "null", "cron": "'0 0 * * *'", "time_zone": "''"}),
    "scans_by_job": ("scans", {"job_id": f"'{KEY}'"}),
    "scans_by_number": ("scans", {"number": "1000"}),
    "scans_company_id_fkey": ("scans", {"company_id": "gen_random_uuid()"}),
    "scans_job_id_fkey": ("scans", {"job_id": "gen_random_uuid()"}),
    "scans_members_check": ("scans", {"members": "-1"}),
    "scans_pkey": ("scans", {"id": f"'{KEY}'"}),
    "scans_status_check": ("scans", {"status": "'well'", "finished_at": "now()"}),
    "ended_scan_has_a_status": ("scans", {"finished_at": "now()"}),
    "scan_parts_error_check": ("scan_parts", {**FAILED_PART, "error": "''"}),
    "scan_parts_pkey": ("scan_parts", {"provider": "'known'"}),
    "scan_parts_provider_check": ("scan_parts", {"provider": "'Known'"}),
    "scan_parts_scan_id_fkey": ("scan_parts", {"scan_id": "gen_random_uuid()"}),
    "scan_parts_state_check": ("scan_parts", {"state": "'well'"}),
    "ended_part_is_dated": ("scan_parts", {"state": "'succeeded'"}),
    "failed_part_says_why": ("scan_parts", {**FAILED_PART, "error": "null"}),
    "part_counts_count": ("scan_parts", {"opened": "1"}),
    "findings_company_id_fkey": ("findings", {"company_id": "gen_random_uuid()"}),
    "findings_detail_check": ("findings", {"detail": "'[]'"}),
    "findings_key_check": ("findings", {"key": "repeat('k', 201)"}),
    "findings_kind_check": ("findings", {"kind": "'Odd'"}),
    "findings_member_id_fkey": ("findings", {"member_id": "gen_random_uuid()"}),
    "findings_open": ("findings", {"kind": "'known'"}),
    "findings_pkey": ("findings", {"id": f"'{KEY}'"}),
    "findings_provider_check": ("findings", {"provider": "''"}),
    "findings_resolution_check": ("findings", {**RESOLVED_FINDING, "resolution": "'dull'"}),
    "findings_severity_check": ("findings", {"severity": "'dire'"}),
    "findings_state_check": ("findings", {"state": "'shut'"}),
    "resolution_is_whole": ("findings", {**RESOLVED_FINDING, "resolution": "null"}),
    "seen_in_order": ("findings", {"first_scan": "3"}),
    "companies_scan_providers_check": ("companies", {"scan_providers": "'[]'"}),
    "companies_grace_days_check": ("companies", {"grace_days": "3651"}),
    "companies_name_check": ("companies", {"name": "''"}),
    "companies_name_key": ("companies", {"name": "'Company'"}),
    "companies_pkey": ("companies", {"id": f"'{COMPANY}'"}),
    "connections_company_id_fkey": ("connections", {"company_id": "gen_random_uuid()"}),
    "connections_company_id_secret_reference_fkey": (
        "connections",
        {"kind": "'csv'", "directory": "'{}'", "secret_reference": "'file:not-granted'"},
    ),
    "connections_directory_check": ("connections", {"kind": "'csv'", "directory": "'[]'"}),
    "directories_are_described": ("connections", {"kind": "'django'"}),
    "keys_are_for_directories": ("connections", {"secret_reference": "'file:known'"}),
    "default_key_is_for_the_default": (
        "connections",
        {"kind": "'django'", "directory": "'{}'", "secret_reference": "'env:DJANGO_API_KEY'"},
    ),
    "default_key_signs_no_webhooks": ("webhook_secrets", {"reference": "'env:DJANGO_API_KEY'"}),
    "connections_company_id_name_key": ("connections", {"name": "'first'"}),
    "connections_kind_check": ("connections", {"kind": "'LDAP'", "directory": "'{}'"}),
    "connections_mapped_fields_check": ("connections", {"mapped_fields": "array['plan']"}),
    "connections_name_check": ("connections", {"name": "''"}),
    "connections_pkey": ("connections", {"id": f"'{CONNECTION}'"}),
    "connections_status_check": ("connections", {"status": "'paused'"}),
    "connections_version_kind_check": ("connections", {"version_kind": "'etag'"}),
    "dates_are_finite": ("members", {"expires_at": "'infinity'"}),
    "hold_is_dated": ("members", {"hold": "'unpaid'"}),
    "key_is_whole": ("members", {"external_id": "null"}),
    "members_by_key": ("members", {"external_id": "'known'"}),
    "members_by_national_id": ("members", {"national_id": "'0101012345'"}),
    "members_company_id_fkey": ("members", {"company_id": "gen_random_uuid()", "connection_id": "null", "external_id": "null"}),
    "members_connection_id_company_id_fkey": ("members", {"company_id": f"'{OTHER_COMPANY}'"}),
    "members_hold_check": ("members", {"hold": "''", "held_at": "now()"}),
    "members_metadata_check": ("members", {"metadata": "'[]'"}),
    "members_name_check": ("members", {"name": "''"}),
    "members_national_id_check": ("members", {"national_id": "'010101-1234'"}),
    "members_pkey": ("members", {"id": f"'{MEMBER}'"}),
    "members_state_check": ("members", {"state": "'gone'"}),
    "members_upstream_state_check": ("members", {"upstream_state": "'grace'"}),
    "members_version_check": (
        "members",
        {"version": "-1", "upstream_state": "'removed'", "state": "'removed'", "removed_at": "now()"},
    ),
    "only_the_removed_are_nameless": ("members", {"name": "null"}),
    "pending_plan_is_dated": ("members", {"pending_plan": "'gold'"}),
    "removal_is_dated": ("members", {"removed_at": "now()"}),
    "removed_is_published": ("members", {"upstream_state": "'removed'", "removed_at": "now()"}),
    "version_zero_is_a_tombstone": ("members", {"version": "0"}),
    "member_events_member_id_fkey": ("member_events", {"member_id": "gen_random_uuid()"}),
    "member_events_member_id_version_key": ("member_events", {"version": "1"}),
    "member_events_pkey": ("member_events", {"id": "1000"}),
    "member_events_reason_code_check": ("member_events", {"reason_code": "'WHIM'"}),
    "member_events_version_check": ("member_events", {"version": "0"}),
    "inbox_pkey": ("inbox", {"message_id": "'1'"}),
    "failure_is_dated": ("outbox", {"attempts": "1", "last_error": "'nack'"}),
    "failure_is_explained": ("outbox", {"attempts": "1", "next_attempt_at": "now()"}),
    "outbox_pkey": ("outbox", {"id": "1000"}),
    "held_until_some_time": ("leases", {"holder": "gen_random_uuid()"}),
    "api_keys_company_id_fkey": ("api_keys", {"company_id": "gen_random_uuid()"}),
    "api_keys_created_by_check": ("api_keys", {"created_by": "''"}),
    "api_keys_expires_at_check": ("api_keys", {"expires_at": "'infinity'"}),
    "api_keys_name_check": ("api_keys", {"name": "''"}),
    "api_keys_pkey": ("api_keys", {"id": f"'{KEY}'"}),
    "api_keys_scopes_check": ("api_keys", {"scopes": "array['root']"}),
    "api_keys_sha256_check": ("api_keys", {"sha256": "''"}),
    "revocation_is_whole": ("api_keys", {"revoked_at": "now()"}),
    "idempotency_keys_headers_check": ("idempotency_keys", {"headers": "'[]'"}),
    "idempotency_keys_key_check": ("idempotency_keys", {"key": "''"}),
    "idempotency_keys_pkey": ("idempotency_keys", {"key": "'known'"}),
    "idempotency_keys_status_check": ("idempotency_keys", {"status": "409"}),
    "admin_events_action_check": ("admin_events", {"action": "'issued'"}),
    "admin_events_actor_check": ("admin_events", {"actor": "''"}),
    "admin_events_changes_check": ("admin_events", {"changes": "'[]'"}),
    "admin_events_company_id_fkey": ("admin_events", {"company_id": "gen_random_uuid()"}),
    "admin_events_pkey": ("admin_events", {"id": "1000"}),
    "archival_is_whole": ("connections", {"archived_at": "now()"}),
    "leases_pkey": ("leases", {"resource": "'relay/0'"}),
    "secret_grants_company_id_fkey": ("secret_grants", {"company_id": "gen_random_uuid()"}),
    "secret_grants_pkey": ("secret_grants", {"reference": "'file:known'"}),
    "secret_grants_reference_check": ("secret_grants", {"reference": "'env:PATH'"}),
    "webhooks_check": ("webhooks", {"settings": """'{"header": "x"}'"""}),
    "webhooks_connection_id_company_id_fkey": ("webhooks", {"company_id": f"'{OTHER_COMPANY}'"}),
    "webhooks_mapping_check": ("webhooks", {"mapping": "'[]'"}),
    "webhooks_pkey": ("webhooks", {"connection_id": f"'{CONNECTION}'"}),
    "webhooks_rate_per_second_check": ("webhooks", {"rate_per_second": "0"}),
    "webhooks_scheme_check": ("webhooks", {"scheme": "'plain'"}),
    "webhook_secrets_company_id_reference_fkey": ("webhook_secrets", {"reference": "'file:not-granted'"}),
    "webhook_secrets_connection_id_company_id_fkey": ("webhook_secrets", {"connection_id": f"'{OTHER_CONNECTION}'"}),
    "webhook_secrets_pkey": ("webhook_secrets", {"reference": "'file:known'"}),
    "rate_limits_granted_check": ("rate_limits", {"granted": "-1"}),
    "rate_limits_pkey": ("rate_limits", {"bucket": "'known'"}),
    "rate_limits_tokens_check": ("rate_limits", {"tokens": "-0.1"}),
    "lone_attempts_pkey": ("lone_attempts", {"message": r"'\x01'"}),
    "removal_limits_are_limits": ("connections", {"most_removed_percent": "101"}),
    "subscribers_company_id_fkey": ("subscribers", {"company_id": "gen_random_uuid()"}),
    "subscribers_by_name": ("subscribers", {"name": "'known'"}),
    "subscribers_created_by_check": ("subscribers", {"created_by": "''"}),
    "subscribers_disabled_because_check": ("subscribers", {"state": "'disabled'", "disabled_because": "'dull'"}),
    "subscribers_name_check": ("subscribers", {"name": "''"}),
    "subscribers_new_states_check": ("subscribers", {"new_states": "array['gone']"}),
    "subscribers_pkey": ("subscribers", {"id": f"'{KEY}'"}),
    "subscribers_reason_codes_check": ("subscribers", {"reason_codes": "array['WHIM']"}),
    "subscribers_state_changed_by_check": ("subscribers", {"state_changed_by": "''"}),
    "subscribers_state_check": ("subscribers", {"state": "'asleep'"}),
    "subscribers_url_check": ("subscribers", {"url": "'ftp://lists.example'"}),
    "disabled_is_explained": ("subscribers", {"state": "'disabled'"}),
    "subscriber_secrets_company_id_reference_fkey": ("subscriber_secrets", {"reference": "'file:not-granted'"}),
    "subscriber_secrets_pkey": ("subscriber_secrets", {"reference": "'file:known'"}),
    "subscriber_secrets_subscriber_id_company_id_fkey": ("subscriber_secrets", {"company_id": f"'{OTHER_COMPANY}'"}),
    "deliveries_by_event": ("deliveries", {"version": "1"}),
    "deliveries_in_order": ("deliveries", {"in_order": "true", "version": "3"}),
    "deliveries_last_error_check": ("deliveries", {"last_error": "''"}),
    "deliveries_pkey": ("deliveries", {"id": "1000"}),
    "deliveries_state_check": ("deliveries", {"state": "'lost'", "due_at": "null"}),
    "deliveries_subscriber_id_fkey": ("deliveries", {"subscriber_id": "gen_random_uuid()"}),
    "attempts_count": ("deliveries", {"attempts_of_round": "1"}),
    "ended_delivery_is_dated": ("deliveries", {"finished_at": "now()"}),
    "event_is_whole": ("deliveries", {"member_id": "null", "replay_id": "gen_random_uuid()"}),
    "only_ordered_waits": ("deliveries", {"state": "'waiting'", "due_at": "null"}),
    "only_pending_is_claimed": ("deliveries", {**ENDED_DELIVERY, "claimed_at": "now()"}),
    "pending_is_due": ("deliveries", {"due_at": "null"}),
    "test_has_an_id": ("deliveries", {"member_id": "null", "version": "null"}),
    "delivery_attempts_delivery_id_fkey": ("delivery_attempts", {"delivery_id": "1"}),
    "delivery_attempts_duration_check": ("delivery_attempts", {"duration": "interval '-1 second'"}),
    "delivery_attempts_error_check": ("delivery_attempts", {"outcome": "'failed'", "error_class": "'status'", "error": "''"}),
    "delivery_attempts_error_class_check": ("delivery_attempts", {"outcome": "'failed'", "error_class": "''", "error": "'why'"}),
    "delivery_attempts_number_check": ("delivery_attempts", {"number": "0"}),
    "delivery_attempts_outcome_check": ("delivery_attempts", {"outcome": "'lost'", "error_class": "'status'", "error": "'why'"}),
    "delivery_attempts_pkey": ("delivery_attempts", {"number": "1"}),
    "failed_attempt_is_classified": ("delivery_attempts", {"error_class": "'status'"}),
    "failed_attempt_is_explained": ("delivery_attempts", {"outcome": "'failed'"}),
    "notification_sweep_only_one_check": ("notification_sweep", {"only_one": "false"}),
    "sync_log_pkey": ("sync_log", {"id": f"'{KEY}'"}),
    "sync_log_job_id_fkey": ("sync_log", {"job_id": "gen_random_uuid()"}),
    "sync_log_approves_fkey": ("sync_log", {"approves": "gen_random_uuid()"}),
    "sync_log_connection_id_company_id_fkey": ("sync_log", {"company_id": f"'{OTHER_COMPANY}'"}),
    "sync_log_type_check": ("sync_log", {"type": "'whim'"}),
    "sync_log_mode_check": ("sync_log", {"mode": "'half'"}),
    "sync_log_status_check": ("sync_log", {"status": "'well'"}),
    "sync_log_error_check": ("sync_log", {"status": "'failed'", "error": "''"}),
    "sync_log_details_check": ("sync_log", {"details": "'[]'"}),
    "sync_log_review_check": ("sync_log", {**OPEN_QUARANTINE, **REVIEWED, "review": "'ignored'"}),
    "finished_is_dated": ("sync_log", {"finished_at": "null"}),
    "failed_is_explained": ("sync_log", {"status": "'failed'"}),
    "counts_count": ("sync_log", {"removed": "-1"}),
    "review_is_whole": ("sync_log", {**OPEN_QUARANTINE, **REVIEWED, "reviewed_by": "null"}),
    "only_quarantines_are_reviewed": ("sync_log", REVIEWED),
    "sync_log_pending": ("sync_log", OPEN_RUN),
    "sync_log_open_quarantine": ("sync_log", OPEN_QUARANTINE),
    "sync_entries_pkey": ("sync_entries", {"id": "1000"}),
    "sync_entries_log_id_fkey": ("sync_entries", {"log_id": "gen_random_uuid()"}),
    "sync_entries_what_check": ("sync_entries", {"what": "'odd'"}),
    "sync_entries_changes_check": ("sync_entries", {"changes": "'[]'"}),
    "problem_is_explained": ("sync_entries", {"what": "'invalid'"}),
    "staged_is_usable_or_explained": ("sync_staging", {"source_hash": "null"}),
    "sync_pages_records_check": ("sync_pages", {"records": "0", "hashes": "null"}),
    "each_key_has_a_hash": ("sync_pages", {"records": "2"}),
    "sync_delta_pkey": ("sync_delta", {"place": "1"}),
    "sync_delta_what_check": ("sync_delta", {"what": "'odd'"}),
    "lone_attempts_unfinished_check": ("lone_attempts", {"unfinished": "0"}),
    "jobs_active": ("jobs", {"kind": "'known'", "subject_id": "null"}),
    "jobs_attempts_check": ("jobs", {"attempts": "-1"}),
    "jobs_by_slot": ("jobs", {"schedule_id": f"'{KEY}'", "slot": "'2026-11-22 03:00Z'"}),
    "jobs_company_id_fkey": ("jobs", {"company_id": "gen_random_uuid()"}),
    "jobs_error_check": ("jobs", {"error": "''"}),
    "jobs_kind_check": ("jobs", {"kind": "'directory.sync'"}),
    "jobs_parameters_check": ("jobs", {"parameters": "'[]'"}),
    "jobs_pkey": ("jobs", {"id": f"'{KEY}'"}),
    "jobs_progress_check": ("jobs", {"progress": "'[]'"}),
    "jobs_requested_by_check": ("jobs", {"requested_by": "''"}),
    "jobs_result_check": ("jobs", {"result": "'[]'"}),
    "jobs_slot_check": ("jobs", {"schedule_id": f"'{KEY}'", "slot": "'infinity'"}),
    "jobs_state_check": ("jobs", {"state": "'paused'", **ENDED}),
    "slot_has_a_schedule": ("jobs", {"slot": "now()"}),
    "queued_waits_for_its_message_or_its_retry": ("jobs", {"resend_at": "null"}),
    "running_is_leased": ("jobs", {"state": "'running'", "resend_at": "null", **BEGUN}),
    "running_has_begun": ("jobs", {"state": "'running'", **LEASED}),
    "ended_is_dated": ("jobs", {"finished_at": "now()"}),
    "waiting_for_a_retry_is_explained": ("jobs", {"resend_at": "null", "next_attempt_at": "now()"}),
    "failed_says_why": ("jobs", {"state": "'failed'", **ENDED}),
    "success_has_a_result": ("jobs", {"state": "'succeeded'", **ENDED}),
    "cancelled_was_requested": ("jobs", {"state": "'cancelled'", **ENDED}),
    "queued_is_not_to_be_cancelled": ("jobs", {"cancel_requested_at": "now()"}),
}
# What cannot break before another constraint does: the first column alone is unique already, these only carry foreign keys; and the
# key of the one row that there may be.
CARRIERS = {
    "connections_id_company_id_key",
    "notification_sweep_pkey",
    "subscribers_id_company_id_key",
    "webhooks_connection_id_company_id_key",
}
# The other half of a rule that has two.
ALSO_BROKEN = [
    ("api_keys_scopes_check", "api_keys", {"scopes": "array[]::text[]"}),
    ("revocation_is_whole", "api_keys", {"revoked_by": "'operator'"}),
    ("archival_is_whole", "connections", {"archived_by": "'operator'"}),
    ("connections_mapped_fields_check", "connections", {"mapped_fields": "array['name', 'shoe_size']"}),
    ("companies_grace_days_check", "companies", {"grace_days": "-1"}),
    ("hold_is_dated", "members", {"held_at": "now()"}),
    ("directories_are_described", "connections", {"directory": "'{}'"}),
    ("members_national_id_check", "members", {"national_id": "''"}),
    ("dates_are_finite", "members", {"starts_at": "'-infinity'"}),
    ("removed_is_published", "members", {"state": "'removed'"}),
    ("removal_is_dated", "members", {"upstream_state": "'removed'", "state": "'removed'"}),
    ("pending_plan_is_dated", "members", {"pending_start": "current_date"}),
    ("held_until_some_time", "leases", {"expires_at": "now()"}),
    ("secret_grants_reference_check", "secret_grants", {"reference": "'file:/etc/passwd'"}),
    ("secret_grants_reference_check", "secret_grants", {"reference": "'file:'"}),
    ("webhooks_check", "webhooks", {"scheme": "'hmac'", "settings": "'[]'"}),
    ("webhooks_rate_per_second_check", "webhooks", {"rate_per_second": "100001"}),
    ("removal_limits_are_limits", "connections", {"most_removals": "-1"}),
    ("removal_limits_are_limits", "connections", {"few_removals": "-1"}),
    ("finished_is_dated", "sync_log", {"status": "'pending'"}),
    ("failed_is_explained", "sync_log", {"error": "'why'"}),
    ("only_quarantines_are_reviewed", "sync_log", {**OPEN_QUARANTINE, **REVIEWED, "dry_run": "true"}),
    ("problem_is_explained", "sync_entries", {"what": "'conflicting'"}),
    ("staged_is_usable_or_explained", "sync_staging", {"reason": "'no name'"}),
    ("staged_is_usable_or_explained", "sync_staging", {"external_id": "null"}),
    ("staged_is_usable_or_explained", "sync_staging", {"content": "null"}),
    ("queued_waits_for_its_message_or_its_retry", "jobs", {"next_attempt_at": "now()", "error": "'away'"}),
    ("queued_waits_for_its_message_or_its_retry", "jobs", {"state": "'running'", **LEASED, **BEGUN, "resend_at": "now()"}),
    ("running_is_leased", "jobs", {"lease_holder": "gen_random_uuid()"}),
    ("running_is_leased", "jobs", {"state": "'running'", **LEASED, **BEGUN, "lease_expires_at": "null"}),
    ("success_has_a_result", "jobs", {"state": "'partial'", **ENDED, "result": "'{}'", "error": "'but'"}),
    ("either_an_interval_or_a_cron_expression", "schedules", {"cron": "'0 0 * * *'", "time_zone": "'UTC'"}),
    ("cron_expressions_have_a_time_zone", "schedules", {"time_zone": "'UTC'"}),
    ("schedules_interval_ms_check", "schedules", {"interval_ms": "367 * 86400000::bigint"}),
    ("pending_dates_are_finite", "members", {**PLANNED, "pending_expires_at": "'infinity'"}),
    ("disabled_is_explained", "subscribers", {"disabled_because": "'gone'"}),
    ("ended_scan_has_a_status", "scans", {"status": "'partial'"}),
    ("ended_part_is_dated", "scan_parts", {"finished_at": "now()"}),
    ("failed_part_says_why", "scan_parts", {"error": "'why'"}),
    ("part_counts_count", "scan_parts", {"resolved": "-1"}),
    ("resolution_is_whole", "findings", {"resolution": "'not_found'"}),
    ("seen_in_order", "findings", {"first_seen_at": "now() + interval '1 day'"}),
    ("pending_is_due", "deliveries", {"state": "'waiting'", "in_order": "true"}),
    ("ended_delivery_is_dated", "deliveries", {**ENDED_DELIVERY, "finished_at": "null"}),
    ("ended_is_dated", "jobs", {"state": "'failed'", "error": "'away'", "resend_at": "null"}),
]

TABLES = sorted(ROWS)
# What dbmate writes its own notes into is dbmate's.
ALL_TABLES = (
    "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> 'schema_migrations'"
)
CONSTRAINTS = """
select conname from pg_constraint
where contype <> 'n' and conrelid::regclass::text = any ($1)
union
select indexrelid::regclass::text from pg_index where indisunique and indrelid::regclass::text = any ($1)
"""


def insert(table: str, **changed: str) -> str:
    row = ROWS[table] | changed
    override = (
        " overriding system value"
        if "id" in changed and table in ("admin_events", "deliveries", "member_events", "outbox", "plan_changes", "sync_entries")
        else ""
    )
    if "number" in changed and table == "scans":
        override = " overriding system value"
    return f"insert into {table} ({', '.join(row)}){override} values ({', '.join(row.values())})"


@pytest.fixture
async def connection(module_database_url: str) -> AsyncIterator[Any]:
    """A transaction with a row in every table, never committed."""
    connection = await asyncpg.connect(module_database_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(insert("companies", id=f"'{COMPANY}'", name="'Company'"))
    await connection.execute(insert("companies", id=f"'{OTHER_COMPANY}'", name="'Other'"))
    await connection.execute(insert("connections", id=f"'{CONNECTION}'", name="'first'"))
    await connection.execute(insert("members", id=f"'{MEMBER}'", external_id="'known'", national_id="'0101012345'"))
    await connection.execute(insert("member_events", id="1000", version="1"))
    await connection.execute(insert("inbox", message_id="'1'"))
    await connection.execute(insert("outbox", id="1000"))
    await connection.execute(insert("leases", resource="'relay/0'"))
    await connection.execute(insert("api_keys", id=f"'{KEY}'"))
    await connection.execute(insert("idempotency_keys", key="'known'"))
    await connection.execute(insert("admin_events", id="1000"))
    await connection.execute(insert("connections", id=f"'{OTHER_CONNECTION}'", name="'second'"))
    await connection.execute(insert("secret_grants", reference="'file:granted'"))
    await connection.execute(insert("secret_grants", reference="'file:known'"))
    await connection.execute(insert("webhooks", connection_id=f"'{CONNECTION}'"))
    await connection.execute(insert("webhook_secrets", reference="'file:known'"))
    await connection.execute(insert("rate_limits", bucket="'known'"))
    await connection.execute(insert("lone_attempts", message=r"'\x01'"))
    await connection.execute(
        insert("jobs", id=f"'{KEY}'", kind="'known'", subject_id="null", schedule_id=f"'{KEY}'", slot="'2026-11-22 03:00Z'")
    )
    await connection.execute(insert("sync_log", id=f"'{KEY}'", **OPEN_RUN))
    await connection.execute(insert("sync_log", **OPEN_QUARANTINE))
    await connection.execute(insert("sync_entries", id="1000"))
    await connection.execute(insert("sync_delta", place="1"))
    await connection.execute(insert("plan_changes", id="1000", effective_date_day="'2026-11-22'"))
    await connection.execute(insert("drift_runs", id=f"'{KEY}'", read_model="'audit'"))
    await connection.execute(insert("drift_findings", key="'known'"))
    await connection.execute(insert("drift_streaks", read_model="'audit'"))
    await connection.execute(insert("schedules", id=f"'{KEY}'", kind="'expiry'", company_id="null", subject_id="null"))
    await connection.execute(insert("jobs", id=f"'{JOB}'"))
    await connection.execute(insert("scans", id=f"'{KEY}'", job_id=f"'{KEY}'", number="1000"))
    await connection.execute(insert("scan_parts", provider="'known'"))
    await connection.execute(insert("findings", id=f"'{KEY}'", kind="'known'"))
    await connection.execute(insert("subscribers", id=f"'{KEY}'", name="'known'"))
    await connection.execute(insert("subscriber_secrets", reference="'file:known'"))
    await connection.execute(insert("deliveries", id="1000", version="1", in_order="true"))
    await connection.execute(insert("delivery_attempts", number="1"))
    yield connection
    await transaction.rollback()
    await connection.close()


async def test_every_table_has_a_row_here(connection: Any) -> None:
    assert {name for (name,) in await connection.fetch(ALL_TABLES)} == ROWS.keys()


async def test_every_constraint_has_a_case(connection: Any) -> None:
    existing = {name for (name,) in await connection.fetch(CONSTRAINTS, TABLES)}

    assert existing == BROKEN.keys() | CARRIERS


@pytest.mark.parametrize("table", TABLES)
async def test_a_valid_row_is_taken(connection: Any, table: str) -> None:
    await connection.execute(insert(table))


@pytest.mark.parametrize(("constraint", "table", "changed"), [*((name, *case) for name, case in BROKEN.items()), *ALSO_BROKEN])
async def test_a_constraint_refuses_what_it_says(connection: Any, constraint: str, table: str, changed: dict[str, str]) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
        await connection.execute(insert(table, **changed))

    assert caught.value.constraint_name == constraint


async def test_a_tombstone_and_an_erased_member_are_valid(connection: Any) -> None:
    await connection.execute(insert("members", version="0", name="null", external_id="'a'", **GONE))
    await connection.execute(insert("members", version="5", name="null", external_id="'b'", **GONE))


async def test_two_members_without_a_key_or_a_national_id_are_two_members(connection: Any) -> None:
    for _ in range(2):
        await connection.execute(insert("members", connection_id="null", external_id="null"))
