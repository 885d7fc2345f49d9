-- Findings. Pages are compared and ordered by all columns of their index: with equalities the planner would take the primary key, and read
-- through everybody else's.

-- name: record_findings
-- What a provider found of members that have not left, once each; one that is open stays the same. Members are locked, so that who is
-- erased in this moment is erased after it, with what is written here. Answers what this scan had not seen before, and what is new.
with live as (
    select id
    from members
    where id = any ($4::uuid[]) and company_id = $1 and upstream_state <> 'removed'
    order by id
    for share
), recorded as (
    insert into findings as f (id, company_id, member_id, provider, kind, key, severity, detail, first_scan, last_scan)
    select n.id, $1, n.member_id, $2, n.kind, n.key, n.severity, n.detail, $3, $3
    from unnest($5::uuid[], $4::uuid[], $6::text[], $7::text[], $8::text[], $9::jsonb[]) as n (id, member_id, kind, key, severity, detail)
    join live on live.id = n.member_id
    on conflict (member_id, provider, kind, key) where state = 'open' do update set
        severity = excluded.severity,
        detail = excluded.detail,
        last_scan = excluded.last_scan,
        last_seen_at = greatest(excluded.last_seen_at, f.last_seen_at)
        where f.last_scan < excluded.last_scan
    returning f.first_scan = $3 as is_new
)
select count(*) as found, count(*) filter (where is_new) as opened from recorded;

-- name: resolve_unseen
-- Of up to $5 open findings of a provider after the id $4 those that this scan has not seen; answers how many, and the last id.
with looked_at as (
    select id, member_id, last_scan
    from findings
    where (company_id, state, provider, id) > ($1, 'open', $2, $4) and (company_id, state, provider) <= ($1, 'open', $2)
    order by company_id, state, provider, id
    limit $5
), resolved as (
    update findings f set
        state = 'resolved',
        resolved_at = clock_timestamp(),
        resolution = case when m.upstream_state = 'removed' then 'member_left' else 'not_found' end
    from looked_at l
    join members m on m.id = l.member_id
    where f.id = l.id and f.state = 'open' and l.last_scan < $3
    returning 1
)
select (select count(*) from resolved) as resolved, (select id from looked_at order by id desc limit 1) as last;

-- name: resolve_pointless
-- Of up to $4 open findings of a company after the id $3 those of members who have left, and of providers other than $2.
with looked_at as (
    select id, member_id, provider
    from findings
    where (company_id, state, id) > ($1, 'open', $3) and (company_id, state) <= ($1, 'open')
    order by company_id, state, id
    limit $4
), resolved as (
    update findings f set
        state = 'resolved',
        resolved_at = clock_timestamp(),
        resolution = case when m.upstream_state = 'removed' then 'member_left' else 'provider_removed' end
    from looked_at l
    join members m on m.id = l.member_id
    where f.id = l.id and f.state = 'open' and (m.upstream_state = 'removed' or l.provider <> all ($2::text[]))
    returning 1
)
select (select count(*) from resolved) as resolved, (select id from looked_at order by id desc limit 1) as last;

-- name: list_findings
-- Of a company in one state, the newest first, below the last one ($3) of the page before; $5 to $8 are filters, null where none is wanted.
select
    id, member_id, provider, kind, key, severity, detail, state, first_scan, last_scan, first_seen_at, last_seen_at, resolved_at, resolution
from findings
where (company_id, state, id) < ($1, $2, $3) and (company_id, state) >= ($1, $2)
    and ($5::text is null or provider = $5)
    and ($6::text is null or kind = $6)
    and ($7::text is null or severity = $7)
    and ($8::uuid is null or member_id = $8)
order by company_id desc, state desc, id desc
limit $4;

-- name: list_findings_by_severity
select
    id, member_id, provider, kind, key, severity, detail, state, first_scan, last_scan, first_seen_at, last_seen_at, resolved_at, resolution
from findings
where (company_id, state, severity, id) < ($1, $2, $7, $3) and (company_id, state, severity) >= ($1, $2, $7)
    and ($5::text is null or provider = $5)
    and ($6::text is null or kind = $6)
    and ($7::text is null or severity = $7)
    and ($8::uuid is null or member_id = $8)
order by company_id desc, state desc, severity desc, id desc
limit $4;

-- name: list_findings_by_kind
select
    id, member_id, provider, kind, key, severity, detail, state, first_scan, last_scan, first_seen_at, last_seen_at, resolved_at, resolution
from findings
where (company_id, state, kind, id) < ($1, $2, $6, $3) and (company_id, state, kind) >= ($1, $2, $6)
    and ($5::text is null or provider = $5)
    and ($6::text is null or kind = $6)
    and ($7::text is null or severity = $7)
    and ($8::uuid is null or member_id = $8)
order by company_id desc, state desc, kind desc, id desc
limit $4;

-- name: list_findings_by_provider
select
    id, member_id, provider, kind, key, severity, detail, state, first_scan, last_scan, first_seen_at, last_seen_at, resolved_at, resolution
from findings
where (company_id, state, provider, id) < ($1, $2, $5, $3) and (company_id, state, provider) >= ($1, $2, $5)
    and ($5::text is null or provider = $5)
    and ($6::text is null or kind = $6)
    and ($7::text is null or severity = $7)
    and ($8::uuid is null or member_id = $8)
order by company_id desc, state desc, provider desc, id desc
limit $4;

-- name: list_findings_of_member
select
    id, member_id, provider, kind, key, severity, detail, state, first_scan, last_scan, first_seen_at, last_seen_at, resolved_at, resolution
from findings
where (member_id, id) < ($8, $3) and member_id >= $8
    and company_id = $1
    and state = $2
    and ($5::text is null or provider = $5)
    and ($6::text is null or kind = $6)
    and ($7::text is null or severity = $7)
order by member_id desc, id desc
limit $4;

-- name: list_findings_of_scan
-- What a scan ($2) found, whatever became of it since, the newest first, below the last one ($3) of the page before. A finding that it
-- lies between two sightings of was found by it too, unless its provider had failed.
select
    id, member_id, provider, kind, key, severity, detail, state, first_scan, last_scan, first_seen_at, last_seen_at, resolved_at, resolution
from findings f
where (company_id, id) < ($1, $3) and company_id >= $1
    and first_scan <= $2 and last_scan >= $2
    and (
        first_scan = $2 or last_scan = $2 or exists (
            select from scans s
            join scan_parts p on p.scan_id = s.id
            where s.number = $2 and p.provider = f.provider and p.state = 'succeeded'
        )
    )
order by company_id desc, id desc
limit $4;

-- name: erase_findings
-- All that was ever found of a member.
delete from findings where member_id = $1;
