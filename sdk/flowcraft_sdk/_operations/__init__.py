"""What a client does, as generators of effects: no I/O, one for the sync and the async client.

Imported by: _client, _transport, the package itself, the server.
"""
