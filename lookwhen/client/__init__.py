"""What asks about clips from Python: a service over HTTP, or a bundle in this process."""
