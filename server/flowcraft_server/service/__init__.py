"""The server's processes: connecting, starting, supervising, draining, stopping.

Components are composed here, and live elsewhere.

Imported by: api, cli.
"""
