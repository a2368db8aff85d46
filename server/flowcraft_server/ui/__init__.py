"""The pages of the server: rendered on the server, made live by small scripts of our own, with nothing from other hosts.

Imported by: cli.
"""
