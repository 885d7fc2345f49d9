"""JOB_REQUESTED v1: a job is queued, and whoever takes it first runs it; all that it is to do stands in its row."""

from typing import Annotated, Final

from pydantic import StringConstraints

from contracts.fields import Identifier
from contracts.wire import InboundModel

MAX_KIND: Final = 50
KIND_PATTERN: Final = r"^[a-z][a-z0-9_]*$"

JobKindName = Annotated[str, StringConstraints(max_length=MAX_KIND, pattern=KIND_PATTERN)]


class JobRequestedV1(InboundModel):
    """Which job; its message type is that of its kind, such as JOB_DIRECTORY_SYNC.

    `company_id` null is a job of the whole installation, `subject_id` is what it is about: a connection, say. The same job may be
    told of again, and by then have ended: only its row says what it is.
    """

    job_id: Identifier
    kind: JobKindName
    company_id: Identifier | None
    subject_id: Identifier | None
