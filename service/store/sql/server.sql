-- name: read_server_version
-- As one number: 150004 is 15.4.
select current_setting('server_version_num')::integer;
