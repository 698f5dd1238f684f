"""The work on subject access requests.

`worker` is a background task of the service. One worker at a time has the lease; it takes the requests in the order of
their ids, and has the other services do what each asks for (`sources`). All state is in the database (`store`): a
request whose worker is killed is `processing` until the next worker begins it again, which harms nothing.
"""
