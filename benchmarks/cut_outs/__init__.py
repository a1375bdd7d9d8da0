"""Simple cut-outs that move over photos, noise and plain colour: what the built-in model's events
look like where nothing is as its renderer draws it."""
