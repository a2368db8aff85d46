"""Evaluations: cases that blueprints are run with, again and again, and what is expected of the runs.

Imported by: cli.
"""
