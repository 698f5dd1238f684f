"""Connections to the services: aiohttp's connector and parser, with a cheaper protocol and with deadlines."""
