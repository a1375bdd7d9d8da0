"""Public checkpoints of dense video networks to bundles: found, read without running anything that
is in them, recognised, exported and checked.
"""
