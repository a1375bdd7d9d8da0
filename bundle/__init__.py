"""The contract between training and serving: a bundle's schema, its reader, and what both compute
from a view's pixels and a clip's length (frame sampling, downscale, patches).

Nothing here imports another package of ours, or torch: the serving process imports all of it.
"""
