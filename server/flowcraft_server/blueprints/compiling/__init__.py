"""A blueprint as the engine runs it: plan entries for the scripts, and plan nodes for the workers."""
