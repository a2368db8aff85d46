"""Configuration: `flowcraft.yaml`, its environment and its handlers, all mistakes reported at once, with their positions."""
