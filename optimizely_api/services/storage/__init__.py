"""What the services have in common in their databases: engine, transactions, ids, paging."""
