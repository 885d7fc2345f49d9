import json
from uuid import UUID

import pytest
import yaml
from pydantic import ValidationError

from contracts.errors import describe
from contracts.generate import CONTRACTS
from contracts.job_requested import JobRequestedV1

JOB, COMPANY = "0199f3a4-5e2b-7c11-8d02-9a4b7c6d1e30", "0199f3a0-1b2c-7a10-8f00-5d2e6c7b8a91"
BODY = {"jobId": JOB, "kind": "scan", "companyId": COMPANY, "subjectId": None}


def test_a_message_names_the_job_and_what_it_is_about_and_nothing_of_what_it_does():
    message = JobRequestedV1.from_json(json.dumps({**BODY, "parameters": {"full": True}}))

    assert message == JobRequestedV1(job_id=UUID(JOB), kind="scan", company_id=UUID(COMPANY), subject_id=None)
    assert json.loads(message.to_json()) == BODY


@pytest.mark.parametrize("kind", ["", "Scan", "scan.all", "1scan", "a" * 51, None])
def test_a_kind_that_fits_no_routing_key_is_refused(kind):
    with pytest.raises(ValidationError) as refused:
        JobRequestedV1.from_json(json.dumps({**BODY, "kind": kind}))

    assert describe(refused.value).startswith("kind: ")


def test_the_documented_examples_carry_the_type_of_their_kind():
    document = yaml.safe_load((CONTRACTS / "asyncapi.yaml").read_text())
    message = document["components"]["messages"]["JobRequestedV1"]

    assert {example["headers"]["ce-type"] for example in message["examples"]} == {"JOB_DIRECTORY_SYNC", "JOB_RETENTION"}
    assert message["headers"]["properties"]["ce-type"]["pattern"] == "^JOB_[A-Z][A-Z0-9_]*$"
