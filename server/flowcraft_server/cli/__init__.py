"""The commands: `flowcraft-server` runs processes, `flowcraft` works with runs.

They read arguments and print; what is done is elsewhere.

Imported by: nothing.
"""
