"""What spares calls to the services: single-flight calls, a bounded cache, and generations that writes advance."""
