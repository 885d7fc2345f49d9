"""What the directories of connections are, and what their records mean."""
