"""Many rows at once by COPY: neither the driver nor the server turns them into arrays and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from service.domain.errors import UnfitData

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["COPY_FROM", "copy_rows"]

# From so many rows on; fewer take longer by COPY, which is parsed and planned each time.
COPY_FROM: Final = 101


async def copy_rows(tx: Tx, table: str, names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Append the rows in their order; raises UnfitData for a value that its column's type has no form for."""
    try:
        await tx.copy_records_to_table(table, columns=names, records=rows)
    except (TypeError, ValueError, OverflowError):
        # Of the driver's encoder, whose texts quote values; arguments of statements it wraps in errors of its own, these not.
        raise UnfitData("a value does not fit its column") from None
