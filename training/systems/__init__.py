"""Every system of the paper's comparison, to be counted and to be run: see ``docs/models.md``."""

from training.systems.table import SYSTEMS, System

__all__ = ["SYSTEMS", "System"]
