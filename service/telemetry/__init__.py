"""Logs and traces, and every name that they and the metrics use."""
