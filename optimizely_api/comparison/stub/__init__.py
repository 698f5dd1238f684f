"""A light stub of the three services, so that what a load measures is the gateway."""
