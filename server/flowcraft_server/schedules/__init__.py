"""Schedules: when their ticks are, and which of them is due. Pure functions over frozen records.

Imported by: cli, config, store, worker.
"""
