"""The HTTP API: requests in, calls of the SDK's `AsyncClient` out. It knows nothing of workers and blueprints' insides.

Imported by: cli, ui.
"""
