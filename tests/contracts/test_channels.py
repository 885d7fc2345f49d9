import re
from uuid import UUID

import pytest

from contracts.channels import (
    CHANNELS,
    EXCHANGES,
    JOB_REQUESTED,
    JOBS,
    MEMBER_CHANGED,
    MEMBER_CHANGES,
    MEMBERSHIP_UPDATED,
    SCHEDULE_TICK,
    TICKS,
    WEBHOOK_RECEIVED,
    WEBHOOKS,
    job_routing_key,
    member_changed_routing_key,
    membership_updated_routing_key,
    queue_family,
    schedule_tick_routing_key,
    webhook_routing_key,
)

ID = UUID("0199f3a0-1b2c-7a10-8f00-5d2e6c7b8a91")


def test_names_are_the_ones_others_rely_on():
    assert [exchange.name for exchange in EXCHANGES] == ["rollcall.inbound", "rollcall.commands", "rollcall.events"]
    assert [queue.name for queue in MEMBER_CHANGES.queues] == [
        "rollcall.member-changes.parked",
        "rollcall.member-changes.retry",
        "rollcall.member-changes",
    ]
    assert TICKS.main.name == "rollcall.ticks"
    assert WEBHOOKS.main.name == "rollcall.webhooks"
    assert JOBS.main.name == "rollcall.jobs"
    assert {channel.message_type: channel.exchange.name for channel in CHANNELS} == {
        "MEMBER_CHANGED": "rollcall.inbound",
        "WEBHOOK_RECEIVED": "rollcall.inbound",
        "SCHEDULE_TICK": "rollcall.commands",
        "JOB_REQUESTED": "rollcall.commands",
        "MEMBERSHIP_UPDATED": "rollcall.events",
        "MEMBERS_IMPORTED": "rollcall.events",
        "DRIFT_PROMOTED": "rollcall.events",
    }


def test_what_waits_in_retry_returns_to_main_and_what_main_gives_up_ends_in_parked():
    family = queue_family("q")

    assert family.main.arguments["x-dead-letter-routing-key"] == family.parked.name
    assert family.retry.arguments["x-dead-letter-routing-key"] == family.main.name
    assert family.retry.arguments["x-message-ttl"] == 30_000
    assert not any(name.startswith(("x-dead-letter", "x-message-ttl", "x-expires")) for name in family.parked.arguments)


@pytest.mark.parametrize("queue", queue_family("q").queues, ids=lambda queue: queue.name)
def test_no_queue_drops_a_message_by_itself(queue):
    arguments = queue.arguments

    assert queue.durable
    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-overflow"] == "reject-publish"
    if "x-dead-letter-exchange" in arguments:
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
        assert arguments["x-dead-letter-exchange"] == ""
    else:
        # A delivery limit without a dead-letter exchange drops; -1 does so at once on RabbitMQ 3.10.
        assert int(arguments["x-delivery-limit"]) > 1_000_000_000


def test_queue_arguments_cannot_be_changed_by_who_reads_them():
    with pytest.raises(TypeError):
        MEMBER_CHANGES.main.arguments["x-delivery-limit"] = 1  # type: ignore[index]  # the assignment is the case


def test_routing_keys_are_the_documented_ones():
    assert member_changed_routing_key() == "member.changed"
    assert schedule_tick_routing_key() == "schedule.tick"
    assert webhook_routing_key(ID) == f"webhook.{ID}"
    assert membership_updated_routing_key(ID) == f"membership.updated.{ID}"
    assert job_routing_key("directory_sync") == "job.directory_sync"


@pytest.mark.parametrize("kind", ["", "a.b", "a b", "*", "#", "ð", "a\n", "A", "_a", "1", "a" * 51])
def test_a_job_kind_is_one_word_of_its_routing_key(kind):
    with pytest.raises(ValueError, match="job kind"):
        job_routing_key(kind)


def test_each_kind_of_job_has_a_message_type_of_its_own():
    assert JOB_REQUESTED.type_of("directory_sync") == "JOB_DIRECTORY_SYNC"
    assert MEMBER_CHANGED.type_of(None) == "MEMBER_CHANGED"


def test_a_queue_binds_every_message_of_its_channel():
    assert MEMBER_CHANGED.binding_key == member_changed_routing_key()
    assert SCHEDULE_TICK.binding_key == schedule_tick_routing_key()
    assert WEBHOOK_RECEIVED.binding_key == "webhook.*"
    assert JOB_REQUESTED.binding_key == "job.*"
    pattern = MEMBERSHIP_UPDATED.binding_key.replace(".", r"\.").replace("*", "[^.]+")
    assert re.fullmatch(pattern, membership_updated_routing_key(ID))


def test_messages_schemas_and_queues_are_distinct():
    assert len({(channel.message_type, channel.version) for channel in CHANNELS}) == len(CHANNELS)
    assert len({channel.schema_name for channel in CHANNELS}) == len(CHANNELS)
    names = [queue.name for channel in CHANNELS if channel.queue for queue in channel.queue.queues]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.schema_name)
def test_inbound_ignores_unknown_fields_and_outbound_forbids_them(channel):
    expected = "ignore" if channel.direction == "inbound" else "forbid"

    assert channel.model.model_config["extra"] == expected
    assert channel.model.model_config["frozen"]
    assert channel.model.__name__.endswith(f"V{channel.version}")
