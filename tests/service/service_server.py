"""``lookwhen serve`` as a process, as measurements start it too."""

from benchmarks.served import ROOT, Server, wait_for

__all__ = ["ROOT", "Server", "wait_for"]
