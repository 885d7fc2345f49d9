-- name: begin_sweep
-- With the first subscriber; what happened before is nobody's.
insert into notification_sweep (swept_to)
select coalesce(max(id), 0) from member_events
on conflict (only_one) do nothing;
