"""The load generator, an open loop: its plan, its HTTP client and its counts."""
