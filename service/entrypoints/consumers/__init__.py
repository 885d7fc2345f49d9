"""The queue doors."""
