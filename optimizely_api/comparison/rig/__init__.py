"""What a comparison starts and stops: gateways, upstreams and the balancer."""
