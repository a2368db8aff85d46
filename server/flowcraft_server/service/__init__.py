"""The server's processes: connecting, starting, supervising, draining, stopping."""
