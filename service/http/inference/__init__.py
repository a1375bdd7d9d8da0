"""The Open Inference Protocol, version 2: another door to the same pipeline.

What is asked, how it is checked and what is answered is here once, whatever carries it.
Source: the protocol's specification (KServe), its extensions for binary tensors, for parameters and
for classification (Triton).
"""
