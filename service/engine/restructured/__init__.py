"""What a bundle's graph computes, arranged so that it takes less time.

A bundle keeps what was exported: basic operators, which every execution provider has, and each
weight as it was trained, so that the bundle can be trained on. What onnxruntime runs best on a CPU
and with CUDA is made here, when a graph is loaded. What is not recognised stays as it is.
"""

from service.engine.restructured.arranged import Arranger
from service.engine.restructured.restructure import restructure

__all__ = ["Arranger", "restructure"]
