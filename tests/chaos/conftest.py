"""The seed, and what a scenario is called."""

from __future__ import annotations

import inspect
import os
import secrets

import pytest

from tests.chaos.scenario import SEED, Scenario


@pytest.fixture(scope="session")
def chaos_seed(pytestconfig: pytest.Config) -> int:
    """ROLLCALL_CHAOS_SEED, or a new one; printed, so that a run can be made again."""
    seed = int(os.environ.get(SEED) or secrets.randbelow(2**32))
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    if terminal is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(f"{SEED}={seed}")
    return seed


@pytest.fixture
def scenario(request: pytest.FixtureRequest, chaos_seed: int) -> Scenario:
    name = request.node.name
    title = inspect.cleandoc(request.function.__doc__).partition("\n")[0].rstrip(".")
    parameter = name.partition("[")[2].rstrip("]")
    return Scenario(name, f"{title}: {parameter}" if parameter else title, chaos_seed)
