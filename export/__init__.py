"""Checkpoint to bundle: ONNX graphs with dynamic batch and K, checked against torch."""

from startup.command import begin_module

begin_module(__name__, "train")
