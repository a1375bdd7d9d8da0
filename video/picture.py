"""A picture as PNG or JPEG, by FFmpeg's encoders: where clips are decoded, FFmpeg is there."""

from torch import Tensor

from video.codec import VideoEncoder
from video.facts import PictureFormat


def encode_picture(pixels: Tensor, kind: PictureFormat) -> Tensor:
    """uint8 [H, W, 3] -> the bytes of a file, uint8 [bytes].

    A PNG has every pixel as it is; a JPEG keeps its colours at full resolution.
    """
    still = VideoEncoder(pixels.permute(2, 0, 1)[None].contiguous(), frame_rate=1)
    if kind == "png":
        # 5: the filter that suits each row best.
        return still.to_tensor(
            "image2pipe", codec="png", pixel_format="rgb24", extra_options={"pred": 5}
        )
    return still.to_tensor("mjpeg", codec="mjpeg", pixel_format="yuvj444p")
