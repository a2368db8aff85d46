"""A blueprint as the engine runs it: plan entries for the scripts, and plan nodes for the workers.

Imported by: `linting`, for loops; `engine`, `store` and `service`, for plans.
"""
