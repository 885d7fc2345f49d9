"""The admin API: companies, directories, members, syncs, jobs and keys over HTTP, behind keys with scopes."""
