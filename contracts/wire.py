"""What every message body is: frozen, strict, camelCase on the wire and snake_case in Python."""

from typing import Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """A message body or a part of one."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @classmethod
    def from_json(cls, body: bytes | str) -> Self:
        """Read a body; raises pydantic.ValidationError, of which only `contracts.errors.describe` is fit to show."""
        return cls.model_validate_json(body, by_alias=True, by_name=False)

    def to_json(self) -> bytes:
        """The body in UTF-8; a field that was never given stays absent, since absent and null differ."""
        return self.model_dump_json(by_alias=True, exclude_unset=True).encode()


class InboundModel(WireModel):
    """What others send: fields that are not known yet are ignored, so that producers may move first."""

    model_config = ConfigDict(extra="ignore")


class OutboundModel(WireModel):
    """What Rollcall sends: only what the contract names leaves."""

    model_config = ConfigDict(extra="forbid")
