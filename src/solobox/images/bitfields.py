"""BMP files whose header says by masks where each colour lies in a pixel: Pillow reads the usual masks alone."""

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile

_DECODER: Final = "solobox_bitfields"
_BITFIELDS = 3


class BitfieldsBmp(BmpImageFile):
    """Pillow's BMP, which also reads 16 and 32 bits with any masks."""

    def _bitmap(self, header: int = 0, offset: int = 0) -> None:
        try:
            super()._bitmap(header, offset)
        except OSError:
            if not self._read_masks(offset):
                raise

    def _read_masks(self, offset: int) -> bool:
        """Take size and masks from the header; whether it has any."""
        if self.fp is None:
            return False
        self.fp.seek(14)
        head = self.fp.read(56)
        size, width, height, _, bits, compression = struct.unpack_from("<IiiHHI", head)
        if size < 40 or compression != _BITFIELDS or bits not in (16, 32):
            return False
        red, green, blue, alpha = struct.unpack_from("<4I", head, 40)
        masks = [red, green, blue] + ([alpha] if size >= 56 and alpha else [])
        if not all(map(_is_mask, masks)):
            return False
        self._mode = "RGBA" if len(masks) == 4 else "RGB"
        self._size = width, abs(height)
        self.tile = [
            ImageFile._Tile(_DECODER, (0, 0, width, abs(height)), offset, (masks, bits, height < 0)),  # noqa: SLF001
        ]
        return True


class _Decoder(ImageFile.PyDecoder):
    _pulls_fd = True

    def decode(self, buffer: Any) -> tuple[int, int]:  # noqa: ARG002  (Pillow's signature)
        """Decode all rows, some at a time."""
        masks, bits, top_down = self.args
        width, height = self.state.xsize, self.state.ysize
        stride = (width * bits + 31) // 32 * 4
        content = self.fd.read(stride * height) if self.fd is not None else b""
        if len(content) < stride * height:
            raise EOFError("the image is truncated")
        stored = np.frombuffer(content, f"<u{bits // 8}").reshape(height, -1)[:, :width]
        pixels = np.empty((height, width, len(masks)), np.uint8)
        rows = max(1, 1_000_000 // width)
        for top in range(0, height, rows):
            for channel, mask in enumerate(masks):
                pixels[top : top + rows, :, channel] = _scaled(stored[top : top + rows], mask)
        self.set_as_raw((pixels if top_down else pixels[::-1]).tobytes(), self.mode or "RGB")
        return -1, 0


Image.register_decoder(_DECODER, _Decoder)


def _is_mask(mask: int) -> bool:
    """Whether its bits lie side by side."""
    return mask > 0 and bin(mask).strip("0b").count("0") == 0


def _scaled(stored: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
    shift = (mask & -mask).bit_length() - 1
    top = mask >> shift
    return (((stored & mask) >> shift).astype(np.float64) * (255 / top) + 0.5).astype(np.uint8)
