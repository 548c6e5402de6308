"""Prints numbered lines as fast as they are taken: so many, or for ever.

    flooding.py [LINES]
"""

import itertools
import sys

lines = int(sys.argv[1]) if len(sys.argv) > 1 else None
for number in itertools.count() if lines is None else range(lines):
    sys.stdout.write("line %d\n" % number)
sys.stdout.flush()
