"""How the kernel is told what a process of ours may no longer do: Landlock, seccomp, capabilities.

For processes that read what strangers made: decode workers, and readers of foreign weights. What
each of them gives up is said where it is started.
"""
