"""What a load needs, worked out on paper from measured constants. Pure: `flowcraft-server capacity` prints it.

Imported by: cli.
"""
