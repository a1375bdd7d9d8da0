"""LookWhen's network against dense and thinned video transformers, on the same engine."""
