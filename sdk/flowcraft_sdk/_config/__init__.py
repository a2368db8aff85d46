"""The reader of `flowcraft.yaml`: YAML 1.2 with places, variables, `.env`. Needs the extra `config`.

The server and `Client.from_config` read with it, so that both see the same values; the server's blueprints are read with its
YAML part.

Imported by: _client, protocol, the server.
"""
