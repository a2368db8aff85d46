"""What runs nodes in a worker process: Huey's consumer, the event loop, leases, timers."""
