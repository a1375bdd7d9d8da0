"""Checkpoint to bundle: ONNX graphs with dynamic batch and K, checked against torch."""
