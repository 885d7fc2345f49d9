"""Directories of members that are asked over the network or read from a file."""
