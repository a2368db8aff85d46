"""Measurements, as ratios against a peer in the same run: programs of their own, `python -m benchmarks.NAME`.

Imported by: nothing that is shipped.
"""
