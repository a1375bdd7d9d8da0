"""Side-by-side measurements, one command each; results go to ``benchmarks/results``."""
