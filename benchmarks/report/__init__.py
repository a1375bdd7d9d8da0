"""The tables and plots of ``docs/benchmarks.md``, from the files in ``benchmarks/results``."""
