"""The numbers a file is made of ⇄ bytes: little-endian fields of fixed size, and varints (docs/bitstream.md)."""

import struct

from ldcodec.errors import DamagedError


def u32(value: int) -> bytes:
    """Four bytes for a value below 2^32, the lowest first."""
    return struct.pack("<I", value)


def varint(value: int) -> bytes:
    """Unsigned LEB128 of a value below 2^32, in the fewest bytes (1 to 5)."""
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{value} does not fit a varint of this format")
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(groups) + bytes([value])


class Cursor:
    """Reads fields from the start of a file onwards; the end of the data is a DamagedError, never a short field."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.position + count
        if end > len(self._data):
            raise DamagedError("the file is cut short in its header")
        field = self._data[self.position : end]
        self.position = end
        return field

    def u8(self) -> int:
        """The next byte as a number."""
        return self.take(1)[0]

    def u16(self) -> int:
        """The next two bytes as a number."""
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        """The next four bytes as a number."""
        return int.from_bytes(self.take(4), "little")

    def varint(self) -> int:
        """The next varint; DamagedError if it is not in its shortest form or reaches 2^32."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if (byte == 0 and shift) or value >> 32:
                    break
                return value
        raise DamagedError("the header is damaged: a number in it is too large or not in its shortest form")
