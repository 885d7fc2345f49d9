"""What every body of the admin API is: camelCase on the wire, snake_case in Python, and nothing that is not described."""

from __future__ import annotations

from typing import Annotated, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

__all__ = ["AnswerModel", "Listed", "Name", "RequestModel", "Whole"]

T = TypeVar("T")


class _ApiModel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class RequestModel(_ApiModel):
    """What is sent to us; its fields go by their names on the wire alone."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=False)


class AnswerModel(_ApiModel):
    """What we answer."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class Listed(AnswerModel, Generic[T]):
    """One page of a list; `nextCursor` asks for the next one, null where there is none."""

    items: list[T]
    next_cursor: str | None = None


# Any text in one line.
_LINE: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"

# What people call something; blanks around it are nobody's intention.
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_LINE)]
# A whole number that was written as one: no true, no 5.0, no "5".
Whole = Annotated[int, Field(strict=True)]
