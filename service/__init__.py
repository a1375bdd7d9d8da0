"""The service: a clip in, labels out, over HTTP and on the command line."""

__version__ = "0.1.0"
