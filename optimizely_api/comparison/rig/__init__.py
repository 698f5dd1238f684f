"""Starts and stops the processes of a comparison: gateways, upstreams and the balancer."""
