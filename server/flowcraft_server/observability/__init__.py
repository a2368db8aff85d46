"""What operators see of a running server: log lines, with secrets and control characters taken out.

Imported by: api, cli, config, engine, llm, service, store, testing, worker.
"""
