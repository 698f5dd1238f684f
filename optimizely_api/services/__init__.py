"""The three services behind the gateway: projects, experiments and results.

Each is an HTTP application of its own with a database of its own. They share `database` (engine,
transactions, migrations), `http` (application factory, errors, log) and `server` (gunicorn), and never
import the gateway, which meets them over HTTP only.
"""
