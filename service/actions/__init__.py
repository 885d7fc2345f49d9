"""One verb a file; each action owns its transaction."""
