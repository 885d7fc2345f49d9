"""DRIFT_PROMOTED v1: a read model has disagreed with its source in consecutive runs; somebody should look."""

from typing import Annotated, Literal

from pydantic import Field

from contracts.fields import Identifier, Instant
from contracts.wire import OutboundModel


class DriftPromotedV1(OutboundModel):
    """Told once, and not again until a clean run; which keys they are, and why, is asked for with the run's id.

    `driftRate` is `outOfSync` by `compared`, of the run that made the streak long enough.
    """

    read_model: Annotated[str, Field(min_length=1, max_length=100)]
    run_id: Identifier
    mode: Literal["sampled", "full"]
    compared: Annotated[int, Field(ge=1)]
    out_of_sync: Annotated[int, Field(ge=1)]
    errors: Annotated[int, Field(ge=0)]
    drift_rate: Annotated[float, Field(gt=0, le=1)]
    streak: Annotated[int, Field(ge=1)]
    occurred_at: Instant
