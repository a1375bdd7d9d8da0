"""Decoding in processes of its own, because decoders are native code that reads strangers' bytes.

::

    serving process                          decode worker (spawned, confined, one clip at a time)
    pool ── process ──── socket: JSON ─────── worker ── clip (torchcodec)
                  └───── two descriptors: the clip (sealed), room for the frames

The worker gets bytes, never a path; what it sends back is JSON that the parent checks, and pixels
in a block whose size the parent fixed. Nothing is ever unpickled. Pictures and films of what was
kept of a clip are encoded by the same workers, into such a block.
"""
