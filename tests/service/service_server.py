"""``lookwhen serve`` as a process, as measurements start it too."""

from benchmarks.served import ROOT, SERVE, Server, wait_for

__all__ = ["ROOT", "SERVE", "Server", "wait_for"]
