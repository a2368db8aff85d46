"""Where state lives: the embedded server, the server's connections to Redis, the publishing of plans.

Imported by: cli, demo, engine, service, testing, worker.
"""
