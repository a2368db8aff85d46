"""The engine: a claimed node in, a script call out. Claim, run, plan, complete."""
