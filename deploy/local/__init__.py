"""Redis with Sentinel and Redis Cluster on loopback, for tests and for trying things out: `python -m deploy.local`."""
