"""What the tests of reading members stand on: two companies, one with a connection that joined early and one that joined late."""

from __future__ import annotations

from uuid import UUID

from service.domain.member import CompanyId, ConnectionId

COMPANY, OTHER = CompanyId(UUID("aaaaaaaa-0000-4000-8000-000000000001")), CompanyId(UUID("bbbbbbbb-0000-4000-8000-000000000002"))
EARLY, LATE, OTHERS = (ConnectionId(UUID(int=number)) for number in (11, 12, 13))

COMPANIES = f"""
truncate companies cascade;
insert into companies (id, name) values ('{COMPANY}', 'Choir'), ('{OTHER}', 'Club');
insert into connections (id, company_id, name, kind, version_kind, mapped_fields)
select id, company, id::text, 'stream', 'sequence', array['name']
from unnest(array['{EARLY}', '{LATE}', '{OTHERS}']::uuid[], array['{COMPANY}', '{COMPANY}', '{OTHER}']::uuid[]) as c (id, company);
"""
