"""Rendered clips, decoded by hand: what loaders are compared with."""

import numpy as np
import torch
from numpy.typing import NDArray
from torchcodec.decoders import VideoDecoder

from video.framing import Frame, cut_views


def decode_view(video: bytes, chosen: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """The chosen frames of a compressed clip as one centre view: uint8 [T, H, W, 3]."""
    decoded = VideoDecoder(video, seek_mode="approximate").get_frames_at(chosen.tolist()).data
    rows = [cut_views(Frame(pixels[None]), size, size, 1)[0] for pixels in decoded]
    view: NDArray[np.uint8] = torch.stack(rows).numpy()
    return view
