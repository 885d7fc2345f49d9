"""Doors: validate, translate, call; nothing else."""
