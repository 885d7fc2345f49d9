"""Read models: what is derived and must agree with what it is derived from, and how that is compared."""
