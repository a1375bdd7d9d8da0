"""What the engine on a CPU should be: operators, precision, threads, and other runtimes."""
