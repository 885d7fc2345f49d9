-- migrate:up

-- A page of a company's members in the order of their ids, by what people ask for; without one of its own, a filter whose members all
-- joined last would read through everybody before them.
create index members_by_state on members (company_id, state, id);
create index members_by_plan on members (company_id, plan, id);
create index members_by_connection on members (company_id, connection_id, id);
-- Expired when it was last published, in grace again since the company gives more days.
create index members_lapsed on members (company_id, expires_at) where state = 'expired';

-- A name as it is compared when people look for it: without case and without the marks on letters, whatever the locale. Letters from
-- which no mark can be taken are named, and blanks; what follows them in the list, the marks themselves, goes. Plain ASCII, which most
-- is, takes the short way.
create function folded(value text) returns text
language sql immutable parallel safe
return case
    when octet_length(value) = length(value) then lower(translate(value, U&'\0009\000A\000D', '   '))
    else lower(translate(
        normalize(value, NFKD),
        U&'\00D0\00F0\0110\0111\00DE\00C6\0152\00D8\00F8\0141\0142\0126\0127\0131\0009\000A\000D'
            '\0300\0301\0302\0303\0304\0306\0307\0308\0309\030A\030B\030C\031B\0323\0324\0325\0326\0327\0328\032D\032E\0331',
        'ddddþæœoollhhi   '
    ))
end;

-- The words of a name. Each begins with its company, so that a search reads nobody else's. A plain expression of built-in functions: one
-- with a query inside costs ten times as much for each row that is written.
create function name_words(company_id uuid, name text) returns tsvector
language sql immutable parallel safe
return array_to_tsvector(string_to_array(
    left(company_id::text, 8) || replace(folded(name), ' ', ' ' || left(company_id::text, 8)), ' '
));

-- Names in which, for each of these words, one begins with it.
create function name_search(company_id uuid, words text) returns tsquery
language sql immutable parallel safe
return (
    select string_agg(
        '''' || left(company_id::text, 8) || replace(replace(word, '\', '\\'), '''', '''''') || ''':*', ' & '
    )::tsquery
    from unnest(string_to_array(folded(words), ' ')) as word
    where word <> ''
);

create index members_by_name on members using gin (name_words(company_id, name)) where version > 0;
create index members_by_email on members (company_id, lower(email) text_pattern_ops) where email is not null;


-- migrate:down
-- Forward only: mend with a new migration.
