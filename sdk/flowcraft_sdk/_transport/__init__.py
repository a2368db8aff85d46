"""The I/O of the clients: drivers, connections, subscriptions."""
