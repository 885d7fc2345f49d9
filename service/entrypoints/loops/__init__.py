"""The loops that run by themselves."""
