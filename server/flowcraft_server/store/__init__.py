"""Where state lives: the embedded server, the connection to Redis, the publishing of plans."""
