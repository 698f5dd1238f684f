"""The three services behind the gateway: projects, experiments and results.

Each is an HTTP application of its own with a database of its own. They share `http` (errors, JSON bodies, paging,
health, access log, server), `storage` (engine, transactions, migrations, ids, rows) and `schema` (validation),
and never import the gateway, which calls them over HTTP only.
"""
