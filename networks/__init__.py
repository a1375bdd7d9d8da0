"""Published dense video networks, and how their checkpoints become ours.

A transformer here is a :class:`networks.network.VideoNetwork`: it takes any subset of a view's
tokens, each looked up at its own place, and answers logits and a video token. VideoMamba and Video
Swin are not: they need all tokens in their places, and take whole frames.
"""
