"""The wire: every message, exchange and queue, as data that anybody may read without the service."""
