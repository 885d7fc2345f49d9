"""What runs Rollcall: the local stack for a machine of one's own, and what production is deployed with."""
