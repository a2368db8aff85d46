"""What clients, workers and scripts agree on: key names, wire format, bounds, the Lua scripts and their typed wrappers. No I/O.

Imported by: _client, _operations, _transport, node, the package itself, the server.
"""
