-- name: begin_attempt
-- One more attempt that has not ended; how many there are with it.
insert into lone_attempts (message, unfinished)
values ($1, 1)
on conflict (message) do update set unfinished = lone_attempts.unfinished + 1, begun_at = now()
returning unfinished;

-- name: end_attempts
-- The message did not end its process: nothing is held against it any more.
delete from lone_attempts where message = $1;

-- name: forget_attempts
-- Messages that never came back, because somebody emptied their queue.
delete from lone_attempts where begun_at < now() - $1::interval;
