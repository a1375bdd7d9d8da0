"""The contract between training and serving: a bundle's schema, its reader, and the one copy of
preprocessing (frame sampling, resize, downscale, patches).

Nothing here imports another package of ours. Only :mod:`bundle.views` imports torch, because the
serving process, which imports everything else, must stay free of it.
"""
