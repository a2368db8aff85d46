"""Handlers that misbehave, and what a user would call right."""
