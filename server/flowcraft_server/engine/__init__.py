"""The engine: a claimed node in, a script call out. Claim, run, plan, complete. It knows no thread, no loop and no connection.

Imported by: agents, testing, worker.
"""
