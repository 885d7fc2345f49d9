"""Webhooks in, decided purely: whether one is genuine, what makes it the same one, and which change it means."""
