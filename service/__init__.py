"""Rollcall's service: one direction from the doors to the database; `docs/` and the README have the map."""
