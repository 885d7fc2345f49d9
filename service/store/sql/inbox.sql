-- name: claim_messages
-- Take the keys in, sorted against deadlocks; answers those that were not there. A key that another transaction is just
-- taking in is waited for.
insert into inbox (connection_id, source, message_id)
select connection_id, source, message_id
from unnest($1::uuid[], $2::text[], $3::text[]) as key (connection_id, source, message_id)
order by connection_id, source, message_id
on conflict do nothing
returning connection_id, source, message_id;

-- name: release_messages
-- Forget messages of this same transaction that were not applied, so that a replay of them takes effect.
delete from inbox i
using unnest($1::uuid[], $2::text[], $3::text[]) as key (connection_id, source, message_id)
where (i.connection_id, i.source, i.message_id) = (key.connection_id, key.source, key.message_id);
