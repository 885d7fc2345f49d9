from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.admin_rig import Admin, open_admin
from tests.directory_rig import KEY


@pytest.fixture
async def admin(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Admin]:
    """An admin API on a database of the test's own, with directories that may lie on this host."""
    monkeypatch.setenv("ROLLCALL_SECRET_DIRECTORY", KEY)
    async with open_admin(database_url) as served:
        yield served
