"""Connections to the services: what aiohttp's connector and protocol do, cheaper and with deadlines."""
