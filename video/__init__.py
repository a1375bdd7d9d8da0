"""From a clip's bytes to views: once, for serving and for training.

Both see the same frames because both come here. A frame has a time: what is sampled is what a
player shows at that time, in display geometry. Only :mod:`video.facts`, :mod:`video.places`,
:mod:`video.passages` and :mod:`video.errors` are free of torch; the serving process imports these
and nothing else of this package.
"""
