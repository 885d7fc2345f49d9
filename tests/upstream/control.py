"""Switching the directory from outside, a command at a time."""

from __future__ import annotations

from typing import Any

from tests.upstream.api import Member, person
from tests.upstream.faults import STATE, Fault


def change(options: dict[str, Any]) -> None:
    """Members leave, come and are edited."""
    Member.objects.filter(id__in=options.get("delete", [])).delete()
    Member.objects.bulk_create([person(number) for number in options.get("insert", [])])
    for number, fields in options.get("update", {}).items():
        Member.objects.filter(id=int(number)).update(**fields)


def obey(command: dict[str, Any]) -> Any:
    """Do what a command says and answer it."""
    what = command.pop("do")
    with STATE.lock:
        match what:
            case "reset":
                STATE.faults, STATE.requests, STATE.dress, STATE.served = [], [], {}, 0
                STATE.key, STATE.auth = command["key"], command["auth"]
                Member.objects.all().delete()
                Member.objects.bulk_create((person(number) for number in range(1, command["members"] + 1)), batch_size=100)
            case "fault":
                STATE.faults.append(Fault(**command))
            case "heal":
                STATE.faults = []
            case "dress":
                STATE.dress = command["records"]
            case "change":
                change(command)
            case "key":
                STATE.key = command["key"]
            case "requests":
                return list(STATE.requests)
            case _:
                raise ValueError(what)
    return "done"


STATE.change = change
