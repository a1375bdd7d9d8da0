"""``lookwhen bench``: what a machine serves at each sparsity."""
