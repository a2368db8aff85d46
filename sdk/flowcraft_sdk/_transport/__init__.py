"""The I/O of the clients: addresses, connections, drivers of operations, subscriptions.

Imported by: _client, the package itself, the server.
"""
