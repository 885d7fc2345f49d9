"""Outward network: the broker's publishing side, and later the directories."""
