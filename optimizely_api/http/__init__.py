"""HTTP semantics as pure functions, for the gateway, the runtime and the services."""
