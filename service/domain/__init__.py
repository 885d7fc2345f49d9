"""What a member is and how a change alters it: pure functions of values, no clock and no I/O."""
