"""Hostile clips, faults and long runs against a running service; results go to
``benchmarks/results``."""
