"""SCHEDULE_TICK v1: it is time to look which schedules are due; the schedules themselves are in the database."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from contracts.fields import Instant, NotNull, Origin, broken_rule
from contracts.wire import InboundModel

_ONE_OF_THE_TWO_FORMS: Final[dict[str, Any]] = {"anyOf": [{"required": ["scheduledFor"]}, {"required": ["sync_type"]}]}


class ScheduleTickV1(InboundModel):
    """A tick, in Rollcall's own form or as a cloud scheduler sends it: `{"sync_type": "scheduled"}`, without a time."""

    model_config = ConfigDict(json_schema_extra=_ONE_OF_THE_TWO_FORMS)

    scheduled_for: Annotated[Instant | None, NotNull()] = None
    origin: Origin | None = None
    sync_type: Annotated[Literal["scheduled"] | None, NotNull()] = Field(default=None, alias="sync_type")

    @model_validator(mode="after")
    def _is_one_of_the_two_forms(self) -> Self:
        if self.scheduled_for is None and self.sync_type is None:
            raise broken_rule("tick_form", 'scheduledFor: required, unless sync_type is "scheduled"')
        return self
