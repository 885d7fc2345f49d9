-- name: insert_drift_streak
insert into drift_streaks (read_model) values ($1) on conflict do nothing;

-- name: lock_drift_streak
select breaches, promoted, heals from drift_streaks where read_model = $1 for update;

-- name: save_drift_streak
update drift_streaks set breaches = $2, promoted = $3 where read_model = $1;

-- name: set_healing
insert into drift_streaks (read_model, heals) values ($1, $2)
on conflict (read_model) do update set heals = excluded.heals;

-- name: has_drift_streak
select exists (select from drift_streaks where read_model = $1);
