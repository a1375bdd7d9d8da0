"""What decoding a clip costs, held against what it may."""

from torch import Tensor

from video.errors import ClipRefused
from video.facts import ClipLimits


class Meter:
    """Counts decoded pixels, and measures frames before they are used.

    Attributes:
        stored: (height, width) of a frame in decoded pixels, turned, as the header says.
        sizes: the same of the frames that were decoded.
    """

    def __init__(
        self, limits: ClipLimits, stored: tuple[int, int], stretch: tuple[float, float]
    ) -> None:
        """Measure the size in the header.

        Args:
            stretch: display pixels (high, wide) of a decoded one.

        Raises:
            ClipRefused: a frame has too many pixels.
        """
        self.stored, self.sizes = stored, set[tuple[int, int]]()
        self._limits, self._stretch, self._pixels = limits, stretch, 0
        self._check_size(*stored)

    def count(self, frames: int, pixels: Tensor) -> None:
        """Count ``frames`` frames of the size of ``pixels``, uint8 [1, 3, H, W].

        Raises:
            ClipRefused: they are too large, or have become too many.
        """
        height, width = pixels.shape[-2:]
        self.sizes.add((height, width))
        self._check_size(height, width)
        self._pixels += frames * height * width
        self.check(self._pixels)

    def check(self, pixels: int) -> None:
        """Raise ClipRefused if this number of decoded pixels is too large."""
        if pixels > self._limits.max_decoded_pixels:
            raise ClipRefused("too_much_decoding", pixels, self._limits.max_decoded_pixels)

    def _check_size(self, height: int, width: int) -> None:
        # As decoded and as displayed.
        shown = round(height * self._stretch[0]) * round(width * self._stretch[1])
        if (most := max(height * width, shown)) > self._limits.max_frame_pixels:
            raise ClipRefused("too_many_pixels", most, self._limits.max_frame_pixels)
