"""The HTTP API over the real engine."""
