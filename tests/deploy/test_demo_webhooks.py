"""The demo's second chapter: a story that is what it says, and books that show what goes wrong."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from deploy.demo.evidence import Stored
from deploy.demo.performance import tell
from deploy.demo.screen import Screen
from deploy.demo.verdict import Verdict, faults
from deploy.demo.webhook_books import WebhookBooks, webhook_entries
from deploy.demo.webhook_scenario import POSTED, Kind, WebhookScenario, build_webhooks
from deploy.demo.webhook_sources import GitHub, LibraryMissing, StandardWebhooks, Step, Stripe, WebhookSource, check_libraries
from service.domain.webhooks.schemes import PRESETS, Secret
from service.domain.webhooks.signatures import Forged, Verified, verify

SOURCES: dict[UUID, WebhookSource] = {
    UUID(int=number): kind.with_new_secret() for number, kind in enumerate((StandardWebhooks, Stripe, GitHub), 1)
}


@pytest.fixture(scope="module")
def scenario() -> WebhookScenario:
    return build_webhooks(SOURCES, datetime.now(UTC))


def story(scenario: WebhookScenario) -> list[tuple[object, ...]]:
    return [(webhook.kind, webhook.source.name, webhook.step.member, webhook.chunked) for webhook in scenario.webhooks]


class TestScenario:
    def test_is_the_same_whenever_it_is_built(self, scenario: WebhookScenario) -> None:
        others = {connection: type(source).with_new_secret() for connection, source in SOURCES.items()}
        again = build_webhooks(others, datetime.now(UTC))
        assert story(again) == story(scenario)
        assert again.answers == scenario.answers
        assert again.standings.keys() == scenario.standings.keys()

    def test_has_two_hundred_of_every_kind_and_source(self, scenario: WebhookScenario) -> None:
        assert len(scenario.webhooks) == POSTED == sum(scenario.answers.values())
        kinds = Counter(webhook.kind for webhook in scenario.webhooks)
        assert set(kinds) == set(Kind)
        assert min(kinds.values()) >= 5
        assert scenario.answers == {202: 150, 400: 2, 401: 30, 404: 3, 413: 12, 415: 3}
        assert {name for _, name, _, chunked in story(scenario) if chunked} == {source.name for source in SOURCES.values()}
        assert len(scenario.keys) == kinds[Kind.GENUINE]

    def test_has_a_member_that_leaves_at_each_source_and_changes_that_are_changes(self, scenario: WebhookScenario) -> None:
        gone = {member.rpartition("-")[0] for member, standing in scenario.standings.items() if standing.state == "removed"}
        assert gone == {source.name for source in SOURCES.values()}
        for lane in scenario.lanes:
            steps = [webhook.step for webhook in lane if webhook.kind is Kind.GENUINE]
            assert len({replace(step, at=datetime.now(UTC)) for step in steps}) in (len(steps), 0)

    def test_is_judged_by_the_providers_as_the_service_judges(self, scenario: WebhookScenario) -> None:
        """The official libraries and our own verifier: neither knows of the other."""
        for webhook in scenario.webhooks:
            preset = PRESETS[webhook.source.scheme]
            headers = [(name.encode(), value.encode()) for name, value in webhook.headers.items()]
            verdict = verify(preset, headers, webhook.body, [Secret(preset.key(webhook.source.secret))], datetime.now(UTC))
            believed = webhook.source.believes(webhook.body, webhook.headers)
            assert isinstance(verdict, Verified if believed else Forged), (webhook.kind, webhook.source.name)
            assert believed is (webhook.kind not in (Kind.FORGED, Kind.OUTDATED))

    @pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: str(source.name))
    def test_a_secret_is_in_no_repr(self, source: WebhookSource) -> None:
        assert source.secret not in repr(source)

    def test_a_stripe_event_is_known_by_its_id_and_says_its_time_in_seconds(self) -> None:
        step = Step("m", "Ada", "member", "suspended", datetime(2026, 11, 1, tzinfo=UTC))
        event = json.loads(Stripe("s").payload(step))
        assert event["created"] == 1793491200
        assert event["data"]["object"]["status"] == "past_due"
        assert Stripe("s").key(json.dumps(event).encode(), {}) == event["id"] != ""
        later = json.loads(Stripe("s").payload(replace(step, at=step.at + timedelta(hours=1))))
        assert later["id"] != event["id"]


def balanced(scenario: WebhookScenario) -> WebhookBooks:
    taken = len(scenario.keys)
    return WebhookBooks(
        answers=dict(scenario.answers),
        resent=2,
        refused={"mismatch": 12, "no_signature": 6, "outside_tolerance": 12, "too_large": 12},
        duplicate=30,
        stored=Stored(inbox=taken, audited=taken, outbox=0),
        taken_in=set(scenario.keys),
        parked=0,
        delivered=taken,
        out_of_order=0,
        astray=0,
        members=90,
    )


def wrong(books: WebhookBooks, scenario: WebhookScenario) -> dict[str, int]:
    return {entry.name: entry.found for entry in webhook_entries(books, scenario) if not entry.balances}


class TestBooks:
    def test_balance_when_all_is_as_it_must_be(self, scenario: WebhookScenario) -> None:
        assert wrong(balanced(scenario), scenario) == {}

    def test_do_not_balance_when_a_forgery_is_believed(self, scenario: WebhookScenario) -> None:
        books = balanced(scenario)
        stranger = (UUID(int=1), "msg_of_nobody")
        fooled = replace(
            books,
            answers={**books.answers, 401: 29, 202: 151},
            refused={**books.refused, "mismatch": 11},
            taken_in=books.taken_in | {stranger},
            stored=replace(books.stored, inbox=books.stored.inbox + 1),
        )
        assert wrong(fooled, scenario) == {"accepted": 151, "refused 401": 29, "forged": 17, "uninvited": 1}

    def test_call_an_accepted_webhook_that_is_nowhere_lost(self, scenario: WebhookScenario) -> None:
        books = balanced(scenario)
        one = next(iter(books.taken_in))
        nowhere = replace(books, taken_in=books.taken_in - {one}, stored=replace(books.stored, inbox=books.stored.inbox - 1))
        assert wrong(nowhere, scenario)["lost"] >= 1

    def test_call_an_applied_webhook_without_its_event_lost(self, scenario: WebhookScenario) -> None:
        books = balanced(scenario)
        assert wrong(replace(books, delivered=books.delivered - 1), scenario) == {"delivered": 119, "lost": 1}

    def test_do_not_balance_when_a_replay_has_an_effect(self, scenario: WebhookScenario) -> None:
        books = balanced(scenario)
        twice = replace(books, duplicate=29, stored=Stored(inbox=121, audited=121, outbox=0), delivered=121)
        assert wrong(twice, scenario) == {"duplicate": 29, "applied": 121, "delivered": 121}

    def test_do_not_balance_with_a_status_that_nobody_expected(self, scenario: WebhookScenario) -> None:
        books = balanced(scenario)
        assert wrong(replace(books, answers={**books.answers, 500: 1}), scenario) == {"posted": 201, "refused 500": 1}

    @pytest.mark.parametrize("name", ["parked", "astray", "out_of_order"])
    def test_do_not_balance_with_one_out_of_place(self, scenario: WebhookScenario, name: str) -> None:
        assert list(wrong(replace(balanced(scenario), **{name: 1}), scenario).values()) == [1]


class TestVerdict:
    def test_is_good_only_when_every_chapter_balances(self, scenario: WebhookScenario, capsys: pytest.CaptureFixture[str]) -> None:
        good = Verdict("fine", faults(webhook_entries(balanced(scenario), scenario), ""))
        bad = Verdict("odd", faults(webhook_entries(replace(balanced(scenario), astray=1), scenario), "not at rest (1 waits)"))
        assert tell(Screen(), [good, good])
        assert "lost 0, out of order 0" in capsys.readouterr().out
        assert not tell(Screen(), [good, bad])
        said = " ".join(capsys.readouterr().out.split())
        assert "The books do not balance: not at rest (1 waits); astray is 1 and must be 0." in said


def test_a_missing_library_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    check_libraries()
    monkeypatch.setattr("deploy.demo.webhook_sources.find_spec", lambda name: None if name == "stripe" else object())
    with pytest.raises(LibraryMissing, match=r"stripe: not installed.*rollcall\[stack\]"):
        check_libraries()
