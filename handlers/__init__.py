"""The node handlers of this deployment, registered by dotted path in `flowcraft.yaml`."""
