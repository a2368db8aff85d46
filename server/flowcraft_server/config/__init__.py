"""Configuration: `flowcraft.yaml`, its environment and its handlers, all mistakes reported together with their place."""
