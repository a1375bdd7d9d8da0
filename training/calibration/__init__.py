"""Calibration: scores as sure as they are right, and when a bundle has no answer at all.

``lookwhen train calibrate`` fits both on clips that a bundle has not learnt from, by looking at
them as a service does; ``lookwhen train own`` fits them for a network before it exports it. The
command itself is in ``lookwhen/calibrating.py``, for it writes a bundle.
"""
