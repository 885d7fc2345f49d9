"""`rollcall` on a host whose clock is wrong: `SKEW_SECONDS=-30 python -m tests.skewed_service run worker`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

SetAttribute = Callable[[Any, str, Any], None]


def set_clocks(set_attribute: SetAttribute, off: timedelta) -> None:
    """Let the clock of this host be off, for all of ours that is imported by now."""

    class OfAnyHost(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class Wrong(datetime, metaclass=OfAnyHost):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + off

    for name, module in list(sys.modules.items()):
        if name.startswith(("service.", "contracts.")) and getattr(module, "datetime", None) is datetime:
            set_attribute(module, "datetime", Wrong)
    for clock in ("time", "time_ns"):
        real, ahead = getattr(time, clock), off / timedelta(seconds=1) * (1 if clock == "time" else 1e9)
        set_attribute(time, clock, lambda real=real, ahead=ahead: type(real())(real() + ahead))


def main() -> None:
    cli = import_module("service.cli")
    # What the command imports only as it runs.
    import_module("service.wiring.process")
    set_clocks(setattr, timedelta(seconds=float(os.environ["SKEW_SECONDS"])))
    cli.main()


if __name__ == "__main__":
    main()
