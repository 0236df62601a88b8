"""How far a prediction can be trusted: pure functions on arrays."""
