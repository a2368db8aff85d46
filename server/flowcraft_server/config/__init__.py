"""Configuration: `flowcraft.yaml`, its environment and its handlers, all mistakes reported at once, with their positions.

Imported by: agents, api, cli, demo, engine, llm, pytest_plugin, service, store, testing, worker.
"""
