"""Notifications out, decided purely: who wants an event, when it is tried again, and what an attempt makes of its delivery."""
