-- name: take_tokens
-- Take up to $2 whole tokens of a bucket that refills by $3 a second up to $4, on this database's clock; answers how many.
insert into rate_limits as r (bucket, tokens, granted, refilled_at)
values ($1, $4::double precision - least($2::double precision, $4::double precision), least($2, $4)::integer, statement_timestamp())
on conflict (bucket) do update set
    granted = least($2, floor(tokens_at(r.tokens, r.refilled_at, $3::double precision, $4, statement_timestamp())))::integer,
    tokens = tokens_at(r.tokens, r.refilled_at, $3, $4, statement_timestamp())
        - least($2, floor(tokens_at(r.tokens, r.refilled_at, $3, $4, statement_timestamp()))),
    refilled_at = greatest(statement_timestamp(), r.refilled_at)
returning granted;
