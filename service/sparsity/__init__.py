"""How many tokens a request keeps: the levels of sparsity, and the rules that choose among them."""
