"""Clips from Python: a client asks a service over HTTP, a local model answers in this process."""
