"""What happens in the club of the fifth chapter: so many, and what must come of it."""

from __future__ import annotations

from typing import Final

__all__ = ["CHANGES", "CHANGING", "EDITED", "JOIN", "TOLD"]

JOIN: Final = 30
# Each of the first members is changed so often while nobody takes what is told.
CHANGING: Final = range(10)
CHANGES: Final = 3
# Whose rows somebody edits past everything: more than one in a thousand of all members of the demo.
EDITED: Final = range(10, JOIN)
# Joined, changed, repaired: a notification for each version.
TOLD: Final = JOIN + len(CHANGING) * CHANGES + len(EDITED)
