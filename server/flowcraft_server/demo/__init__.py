"""`python -m flowcraft_server.demo`: the four agents at work, on a server of their own that leaves nothing behind.

Imported by: nothing.
"""
