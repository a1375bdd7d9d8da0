"""How the project's processes start: where they look for code, what they say about a package that
is not installed.

It comes before everything else, so it imports nothing of ours, and nothing at its top that Python
has not loaded by then.
"""
