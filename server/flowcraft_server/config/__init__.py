"""Configuration: `flowcraft.yaml`, its environment and its handlers, all mistakes told at once, with their places."""
