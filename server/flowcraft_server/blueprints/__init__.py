"""Blueprints: reading them (`loading`), checking them (`linting`), turning them into plans (`compiling`).

Pure: only `loading.loader` touches files.

Imported by: agents, api, cli, config, engine, evals, service, store, testing, ui, worker.
"""
