"""Any entity of the contract in a service: its table, its checks, and create, read, update and archive."""
