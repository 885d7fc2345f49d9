from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

import asyncpg
import pytest

import service.store
from service.domain.change import InboxKey
from service.domain.directories.guard import RemovalLimits
from service.domain.member import Member
from service.domain.outbox import ClaimedMessage
from service.store.admin_events import AdminEvent
from service.store.api_keys import ApiKeyRow, UsableKey
from service.store.audited_members import AuditDifference, AuditedMember
from service.store.companies import CompanyRow
from service.store.connections import ConnectionRow, DirectoryRow
from service.store.deliveries import AttemptRow, ClaimedDelivery, DeliveryBacklog, DeliveryRow, SettledDelivery, Target
from service.store.directories import DirectoryView, LiveMember
from service.store.drift_findings import DriftFinding, FindingOfRun
from service.store.drift_runs import DriftRunRow
from service.store.drift_streaks import DriftStreakRow
from service.store.due_members import DueMember, PendingMember
from service.store.findings import FindingRow, Recorded, Resolved
from service.store.idempotency_keys import KeptAnswer
from service.store.jobs import ClaimedJob, JobNotice, JobRow
from service.store.leases import Ownership
from service.store.member_events import PastEvent, UntoldEvent
from service.store.member_history import PastVersion
from service.store.member_standings import MemberStanding
from service.store.member_views import MemberView, VerifiedMember
from service.store.outbox import Backlog, Due, Found, RefusalReason
from service.store.plan_changes import PlanChangeRow
from service.store.queries import REGISTRY, queries
from service.store.scan_parts import ScanPartRow
from service.store.scanned_members import MemberAt, ScannedMember, SharingMember
from service.store.scans import BegunScan, ScanRow
from service.store.schedules import DueSchedule, ScheduleRow
from service.store.secret_grants import HeldSecret, SecretGrant
from service.store.subscriber_secrets import SigningSecret
from service.store.subscribers import DisabledSubscriber, ListenerRow, SubscriberRow
from service.store.sync_delta import DeltaCount, DeltaRow
from service.store.sync_entries import SyncEntry
from service.store.sync_log import BegunSync, SyncLogRow
from service.store.sync_pages import Held, Sightings
from service.store.webhook_secrets import WebhookSecret
from service.store.webhooks import WebhookRow

MODULES = [import_module(f"service.store.{module.name}") for module in pkgutil.iter_modules(service.store.__path__)]

# What the function of a query makes of its rows: a row type by name, a row type by position, or the columns that it reads.
BY_NAME: dict[tuple[str, str], Any] = {
    ("admin_events", "list_admin_events"): AdminEvent,
    ("api_keys", "insert_api_key"): ApiKeyRow,
    ("api_keys", "find_api_key"): UsableKey,
    ("api_keys", "list_api_keys"): ApiKeyRow,
    ("api_keys", "show_api_key"): ApiKeyRow,
    ("audited_members", "compare_with_audit"): AuditDifference,
    ("audited_members", "list_audited"): AuditedMember,
    ("companies", "insert_company"): CompanyRow,
    ("companies", "list_companies"): CompanyRow,
    ("companies", "find_company"): CompanyRow,
    ("companies", "page_companies"): CompanyRow,
    ("companies", "lock_company"): CompanyRow,
    ("companies", "change_company"): CompanyRow,
    ("connections", "insert_connection"): ConnectionRow,
    ("connections", "list_connections"): ConnectionRow,
    ("connections", "insert_directory"): ConnectionRow,
    ("connections", "find_directory"): DirectoryRow,
    ("connections", "removal_limits"): RemovalLimits,
    ("deliveries", "claim_deliveries"): ClaimedDelivery,
    ("deliveries", "list_attempts"): AttemptRow,
    ("deliveries", "list_deliveries"): DeliveryRow,
    ("deliveries", "list_targets"): Target,
    ("deliveries", "measure_deliveries"): DeliveryBacklog,
    ("deliveries", "settle_deliveries"): SettledDelivery,
    ("deliveries", "show_delivery"): DeliveryRow,
    ("directories", "page_directories"): DirectoryView,
    ("directory_drift", "read_records_at"): DeltaRow,
    ("directories", "show_directory"): DirectoryView,
    ("directories", "list_live_members"): LiveMember,
    ("drift_findings", "list_drift_findings"): DriftFinding,
    ("drift_findings", "list_first_drift_findings"): FindingOfRun,
    ("drift_findings", "page_drift_findings"): DriftFinding,
    ("drift_runs", "find_drift_run"): DriftRunRow,
    ("drift_runs", "find_visible_drift_run"): DriftRunRow,
    ("drift_runs", "page_drift_runs"): DriftRunRow,
    ("drift_runs", "list_drift_runs"): DriftRunRow,
    ("drift_streaks", "lock_drift_streak"): DriftStreakRow,
    ("findings", "record_findings"): Recorded,
    ("findings", "resolve_unseen"): Resolved,
    ("findings", "resolve_pointless"): Resolved,
    ("findings", "list_findings"): FindingRow,
    ("findings", "list_findings_by_severity"): FindingRow,
    ("findings", "list_findings_by_kind"): FindingRow,
    ("findings", "list_findings_by_provider"): FindingRow,
    ("findings", "list_findings_of_member"): FindingRow,
    ("findings", "list_findings_of_scan"): FindingRow,
    ("idempotency_keys", "find_answer"): KeptAnswer,
    ("jobs", "claim_job"): ClaimedJob,
    ("jobs", "insert_jobs"): JobNotice,
    ("jobs", "move_jobs"): JobNotice,
    ("jobs", "find_job"): JobRow,
    ("jobs", "list_jobs"): JobRow,
    ("jobs", "list_jobs_of_company"): JobRow,
    ("jobs", "list_jobs_of_subject"): JobRow,
    ("leases", "read_ownership"): Ownership,
    ("outbox", "list_refusals"): RefusalReason,
    ("outbox", "measure_backlog"): Backlog,
    ("outbox", "read_backlog"): Backlog,
    ("due_members", "list_ended_memberships"): DueMember,
    ("due_members", "list_ended_graces"): DueMember,
    ("due_members", "list_pending_plans"): PendingMember,
    ("plan_changes", "list_plan_changes"): PlanChangeRow,
    ("scanned_members", "list_scanned_members"): ScannedMember,
    ("scanned_members", "list_members_outside"): ScannedMember,
    ("scanned_members", "list_members_at"): MemberAt,
    ("scanned_members", "stream_members_sharing_email"): SharingMember,
    ("scanned_members", "stream_members_sharing_national_id"): SharingMember,
    ("scan_parts", "list_parts"): ScanPartRow,
    ("scans", "begin_scan"): BegunScan,
    ("scans", "find_scan"): ScanRow,
    ("scans", "find_scan_of_job"): ScanRow,
    ("scans", "list_scans"): ScanRow,
    ("schedules", "claim_due_schedules"): DueSchedule,
    ("schedules", "find_schedule"): ScheduleRow,
    ("schedules", "list_schedules"): ScheduleRow,
    ("member_events", "list_events_at"): PastEvent,
    ("member_events", "list_events_of_member"): PastEvent,
    ("member_events", "list_events_since"): PastEvent,
    ("member_events", "list_untold_events"): UntoldEvent,
    ("member_history", "list_history"): PastVersion,
    ("member_views", "find_member"): VerifiedMember,
    ("member_views", "list_members"): MemberView,
    ("member_views", "list_members_by_national_id"): MemberView,
    ("member_views", "list_members_by_plan"): MemberView,
    ("member_views", "list_members_by_state"): MemberView,
    ("member_views", "list_members_of_connection"): MemberView,
    ("member_views", "search_members"): MemberView,
    ("member_standings", "list_standings"): MemberStanding,
    ("members", "lock_members"): Member,
    ("members", "lock_free_members"): Member,
    ("members", "read_members"): Member,
    ("secret_grants", "list_secret_grants"): SecretGrant,
    ("secret_grants", "list_held_secrets"): HeldSecret,
    ("subscriber_secrets", "list_signing_secrets"): SigningSecret,
    ("subscribers", "disable_subscribers"): DisabledSubscriber,
    ("subscribers", "list_listeners"): ListenerRow,
    ("subscribers", "list_subscribers"): SubscriberRow,
    ("subscribers", "show_subscriber"): SubscriberRow,
    ("sweeps", "list_missed_events"): PastEvent,
    ("sync_delta", "count_delta"): DeltaCount,
    ("sync_delta", "digest_members"): Sightings,
    ("sync_delta", "read_delta"): DeltaRow,
    ("sync_entries", "list_entries"): SyncEntry,
    ("sync_log", "begin_sync"): BegunSync,
    ("sync_log", "find_sync"): SyncLogRow,
    ("sync_log", "find_last_sync_of_job"): SyncLogRow,
    ("sync_log", "list_syncs"): SyncLogRow,
    ("sync_pages", "count_pages"): Held,
    ("webhook_secrets", "list_webhook_secrets"): WebhookSecret,
    ("webhooks", "find_webhook"): WebhookRow,
}
BY_POSITION: dict[tuple[str, str], Any] = {
    ("inbox", "claim_messages"): InboxKey,
    ("outbox", "discover_keys"): Found,
    ("outbox", "sweep_keys"): Found,
    ("outbox", "find_due_keys"): Due,
    ("outbox", "claim_messages"): ClaimedMessage,
}
JOB_FACTS = {"id": "uuid", "state": "text", "attempts": "int4", "lease_fence": "int8", "cancel_requested": "bool"}
COLUMNS: dict[tuple[str, str], dict[str, str]] = {
    ("audited_members", "page_members"): {"id": "uuid"},
    ("audited_members", "sample_members"): {"id": "uuid"},
    ("companies", "grace_of_companies"): {"id": "uuid", "grace_days": "int4"},
    ("connections", "rules_of_connections"): {
        "id": "uuid",
        "company_id": "uuid",
        "grace_days": "int4",
        "version_kind": "text",
        "mapped_fields": "text[]",
        "status": "text",
        "meaning_changed_at": "timestamptz",
    },
    ("deliveries", "insert_deliveries"): {"subscriber_id": "uuid", "member_id": "uuid", "in_order": "bool"},
    ("deliveries", "let_go"): {"subscriber_id": "uuid"},
    ("deliveries", "list_due_subscribers"): {"id": "uuid", "failing": "bool"},
    ("deliveries", "resend_delivery"): {"member_id": "uuid", "replay_id": "uuid", "in_order": "bool"},
    ("directories", "list_live_directories"): {"id": "uuid", "name": "text"},
    ("retention", "discard_abandoned_deliveries"): {
        "subscriber_id": "uuid",
        "member_id": "uuid",
        "replay_id": "uuid",
        "in_order": "bool",
    },
    ("retention", "list_outdated_syncs"): {"id": "uuid"},
    ("retention", "list_unscanned_companies"): {"id": "uuid"},
    ("sync_pages", "compare_page"): {"places": "int4[]", "members": "int8", "digest": "int8"},
    ("jobs", "list_run_slots"): {"schedule_id": "uuid"},
    ("jobs", "lock_due_jobs"): JOB_FACTS,
    ("jobs", "lock_job"): JOB_FACTS,
    ("plan_changes", "try_lock_plan_changes"): {"id": "uuid"},
    ("plan_changes", "list_applied_plan_changes"): {"member_id": "uuid"},
    ("plan_changes", "find_open_plan_change"): {"plan": "text", "effective_date_day": "date", "expires_at": "timestamptz"},
    ("leases", "select_live_relays"): {"holder": "uuid"},
    ("leases", "renew_buckets"): {"resource": "text", "fence": "int8"},
    ("leases", "find_lapsed_buckets"): {"resource": "text"},
    ("leases", "take_buckets"): {"resource": "text", "fence": "int8"},
    ("leases", "release_buckets"): {"resource": "text"},
    ("schema_migrations", "applied_migrations"): {"version": "varchar"},
    ("subscriber_secrets", "retire_subscriber_secrets"): {"reference": "text"},
    ("subscribers", "list_listening_companies"): {"company_id": "uuid"},
    ("subscribers", "lock_ordered"): {"id": "uuid"},
    ("sync_log", "list_baselines"): {"correlation_id": "text"},
    ("sync_log", "list_open_quarantines"): {"job_id": "uuid"},
    ("webhook_secrets", "retire_webhook_secrets"): {"reference": "text"},
}

# What row types import for the type checker alone.
TYPE_NAMES = {"Mapping": Mapping, "UUID": UUID, "datetime": datetime, "timedelta": timedelta}
PYTHON_TYPES: dict[str, Any] = {
    "uuid": UUID,
    "text": str,
    "varchar": str,
    "int2": int,
    "int4": int,
    "int8": int,
    "bool": bool,
    "float8": float,
    "timestamptz": datetime,
    "interval": timedelta,
    "date": date,
    "bytea": bytes,
    "text[]": list,
    "timestamptz[]": list,
    "jsonb": dict,
}


@dataclass(frozen=True)
class Call:
    """A function of a store module that runs a query, and how it asks for the answer."""

    table: str
    query: str
    function: str
    method: str


def calls() -> Iterator[Call]:
    for module in MODULES:
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        tables: dict[str, str] = {}
        constants: dict[str, tuple[str, str]] = {}
        for node in tree.body:
            target, value = assignment(node)
            if value is None:
                continue
            if (table := loaded_table(value)) is not None:
                tables[target] = table
            elif (found := looked_up(value, tables)) is not None:
                constants[target] = found
        for function in ast.walk(tree):
            if isinstance(function, ast.AsyncFunctionDef):
                yield from calls_of(function, tables, constants)


def assignment(node: ast.stmt) -> tuple[str, ast.expr | None]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    return "", None


def loaded_table(value: ast.expr) -> str | None:
    """The table of `queries("table")`."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "queries":
        return str(ast.literal_eval(value.args[0]))
    return None


def looked_up(value: ast.expr, tables: dict[str, str]) -> tuple[str, str] | None:
    """The query of `_SQL["name"].sql`."""
    if not (isinstance(value, ast.Attribute) and value.attr == "sql" and isinstance(value.value, ast.Subscript)):
        return None
    source = value.value.value
    table = tables.get(source.id) if isinstance(source, ast.Name) else loaded_table(source)
    return None if table is None else (table, str(ast.literal_eval(value.value.slice)))


def calls_of(function: ast.AsyncFunctionDef, tables: dict[str, str], constants: dict[str, tuple[str, str]]) -> Iterator[Call]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            first = node.args[0]
            found = constants.get(first.id) if isinstance(first, ast.Name) else looked_up(first, tables)
            if found is not None:
                yield Call(*found, function.name, node.func.attr)


CALLS = list(calls())
QUERIES = sorted(REGISTRY)


def python_type(hint: Any) -> Any:
    """The plain type behind a NewType, an enum of strings, an optional or a generic."""
    options = [option for option in get_args(hint) if option is not type(None)]
    if get_origin(hint) is not None and type(None) in get_args(hint):
        (hint,) = options
    hint = get_origin(hint) or hint
    hint = getattr(hint, "__supertype__", hint)
    if isinstance(hint, type) and issubclass(hint, str):
        return str
    return dict if getattr(hint, "__name__", "") == "Mapping" else hint


def test_every_sql_file_belongs_to_a_module_of_its_name() -> None:
    sql = {path.name.removesuffix(".sql") for path in files("service.store").joinpath("sql").iterdir()}

    assert sql == {table for table, _ in REGISTRY}
    assert {call.table for call in CALLS} == sql


@pytest.mark.parametrize(("table", "name"), QUERIES)
def test_a_query_is_run_and_named_like_the_function_that_runs_it(table: str, name: str) -> None:
    users = {call.function for call in CALLS if (call.table, call.query) == (table, name)}
    assert users, "no function runs it"
    of_several = any(len({call.query for call in CALLS if (call.table, call.function) == (table, user)}) > 1 for user in users)

    # A function that runs several queries cannot lend its name to each, nor can several functions to one.
    assert users == {name} or len(users) > 1 or of_several


def test_a_name_stands_once_in_its_file() -> None:
    for table in {table for table, _ in QUERIES}:
        text = files("service.store").joinpath("sql", f"{table}.sql").read_text(encoding="utf-8")
        assert text.count("-- name: ") == len(queries(table))


@pytest.mark.parametrize(("table", "name"), QUERIES)
async def test_a_query_fits_the_schema_and_its_row_type(module_database_url: str, table: str, name: str) -> None:
    connection = await asyncpg.connect(module_database_url)
    try:
        statement = await connection.prepare(REGISTRY[table, name].sql)
        found = {attribute.name: attribute.type.name for attribute in statement.get_attributes()}
    finally:
        await connection.close()
    methods = {call.method for call in CALLS if (call.table, call.query) == (table, name)}

    if methods == {"execute"}:
        return
    if methods == {"fetchval"}:
        assert len(found) == 1
    elif (table, name) in COLUMNS:
        assert found == COLUMNS[table, name]
    else:
        row_type = BY_NAME.get((table, name)) or BY_POSITION[table, name]
        hints = get_type_hints(row_type, localns=TYPE_NAMES)
        expected = {field.name: python_type(hints[field.name]) for field in fields(row_type)}
        assert [PYTHON_TYPES[kind] for kind in found.values()] == list(expected.values())
        # A member is read by position, and written by the names of its fields: both must hold.
        if (table, name) in BY_NAME:
            assert list(found) == list(expected)
