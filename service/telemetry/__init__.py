"""Logs, and later every span and metric name."""
