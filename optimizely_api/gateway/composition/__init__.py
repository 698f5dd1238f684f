"""From the services' responses to the API's: a module per composite, pure functions shared by all fan-outs."""
