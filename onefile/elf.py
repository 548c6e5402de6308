"""What a shared library needs to be loaded, and no more.

The loader goes by the program headers; section headers, symbol tables and debugging
information, half and more of some wheels, are for debuggers and linkers (elf(5)). Without
binutils, so that the libraries of another machine come out the same everywhere.
"""

import struct

#: ELF header of 64 bits, little-endian: x86-64 and arm64 alike. Offsets of fields.
_PROGRAM_HEADERS, _SECTION_HEADERS, _PROGRAM_COUNT, _SECTION_COUNT = 0x20, 0x28, 0x38, 0x3C
_HEADER_SIZE, _PROGRAM_HEADER_SIZE = 64, 56


def is_library(data: bytes) -> bool:
    return data[:6] == b"\x7fELF\x02\x01"


def stripped(data: bytes) -> bytes:
    """Only what the program headers name; gaps between become zeros, which compress well."""
    start, = struct.unpack_from("<Q", data, _PROGRAM_HEADERS)
    count, = struct.unpack_from("<H", data, _PROGRAM_COUNT)
    ranges = [(0, _HEADER_SIZE), (start, start + count * _PROGRAM_HEADER_SIZE)]
    for number in range(count):
        header = start + number * _PROGRAM_HEADER_SIZE
        offset, = struct.unpack_from("<Q", data, header + 8)
        size, = struct.unpack_from("<Q", data, header + 32)
        ranges.append((offset, offset + size))
    output = bytearray(max(end for _, end in ranges))
    for begin, end in ranges:
        output[begin:end] = data[begin:end]
    struct.pack_into("<Q", output, _SECTION_HEADERS, 0)
    struct.pack_into("<HH", output, _SECTION_COUNT, 0, 0)
    return bytes(output)
