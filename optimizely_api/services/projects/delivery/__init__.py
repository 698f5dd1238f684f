"""Delivery of webhooks: calls of receivers, signed, in order for each webhook, repeated until they are acknowledged.

`sender` is the background task of the service. One worker at a time has the lease; it reads the feeds of changes and of
datafiles (`feeds`), stores a delivery for each webhook that listens to what a row means (`messages`), and sends each
webhook's oldest pending delivery (`post`). All state is in the database (`store`, `tables`): a process that is killed
loses nothing, and repeats only a call whose acknowledgement it had not stored yet. `schedule`, `signature` and
`addresses` are pure.
"""
