"""The only SQL: one module and one `sql/<table>.sql` of named queries for each table."""
