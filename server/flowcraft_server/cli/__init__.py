"""The commands: `flowcraft-server` runs processes, `flowcraft` works with runs."""
