"""What every body of the admin API is: camelCase on the wire, snake_case in Python, and nothing that is not described."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

__all__ = ["AnswerModel", "Listed", "Name", "RequestModel", "Whole", "shown_examples"]

T = TypeVar("T")


class _ApiModel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    # One such body as it is on the wire, for the description; every body that a route takes or answers has one.
    example: ClassVar[dict[str, Any]] = {}

    @classmethod
    def shown(cls) -> dict[str, Any]:
        """The example, empty where there is none."""
        return cls.example


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

    @classmethod
    def shown(cls) -> dict[str, Any]:
        """With the example of what it lists; empty where that has none."""
        args = cls.__pydantic_generic_metadata__["args"]
        items = [item.example for item in args if isinstance(item, type) and issubclass(item, _ApiModel)]
        return {"items": items, "nextCursor": None} if items else {}


def shown_examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each example with the name of its model's schema in the description."""
    below = list[type[_ApiModel]](_ApiModel.__subclasses__())
    for kind in below:
        below += kind.__subclasses__()
        if shown := kind.shown():
            yield re.sub(r"\W", "_", kind.__name__), shown


# Any text in one line.
_LINE: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"

# What people call something; blanks around it are nobody's intention.
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_LINE)]
# A whole number that was written as one: no true, no 5.0, no "5".
Whole = Annotated[int, Field(strict=True)]
