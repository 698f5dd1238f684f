"""What spares calls to the services: single flight, a bounded cache, and generations that writes advance."""
