"""Outward network: the broker's publishing side, and later the directories."""

from service.clients.timestamps import read_any_timestamp

# Whoever takes messages comes through this room or imports from it.
read_any_timestamp()
