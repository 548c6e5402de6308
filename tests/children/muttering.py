"""Prints halves of lines, bytes that are not UTF-8, and a last line without an end."""

import os
import time

PIECES = (b"half", b" and half\n", b"caf\xe9 \xff\xfe\n", b"\xe2\x82", b"\xac\n", b"no end")

for piece in PIECES:
    os.write(1, piece)
    time.sleep(0.02)
os.write(2, b"trouble\n")
