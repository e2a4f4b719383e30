"""The door for counts: prove the sender, decode within bounds, store durably, then acknowledge."""
