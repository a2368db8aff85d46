"""The protocol: key names, wire format, the Lua scripts and their typed wrappers."""
