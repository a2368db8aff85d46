"""Threads beside the ones that run nodes: leases, stop notifications, timers, retention, suspects, the prefetch buffer.

Imported by: `worker`.
"""
