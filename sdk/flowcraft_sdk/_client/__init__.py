"""The clients and handles that applications use, with `client.admin` and `client.schedules`.

One line a method: what it does is in `_operations`.

Imported by: the package itself, the server.
"""
