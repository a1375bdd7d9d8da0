"""Labelled short videos in which things happen, rendered from a seed.

The labels are in the spirit of Something-Something's templates (Goyal et al. 2017): most of them
cannot be told from a single frame. Together with the video comes the true mask of what moves, so
that a selection of tokens can be measured against it.

`scene` draws what happens, `render` turns it into pixels, `encode` compresses, `store` keeps many
clips for training. `lookwhen train render --help` is the way in from a shell.
"""
