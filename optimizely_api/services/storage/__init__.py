"""The database side that all services share: engine, transactions, migrations, ids, rows, paging."""
