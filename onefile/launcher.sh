#!/bin/sh
# pupgevent, the whole of it in one file: a zip archive follows these lines, for any Python from 3.6.
# PUPGEVENT_PYTHON chooses the interpreter, PUPGEVENT_CACHE the folder that this file unpacks into.
# A Python would take a file that is cut short for a program, and call it a syntax error.
size=@SIZE@
found=$(wc -c <"$0" 2>/dev/null)
if [ -n "$found" ] && [ "$found" -ne "$size" ]; then
  echo "pupgevent: $0 is not whole: it has $((found)) bytes of $((size)); copy it once more" >&2
  exit 1
fi
# -E and -s: neither PYTHONPATH nor a package in somebody's home takes part in the supervisor.
for python in "${PUPGEVENT_PYTHON:-python3}" \
  python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python3.7 python3.6 \
  python python2
do
  if command -v "$python" >/dev/null 2>&1; then exec "$python" -Es "$0" "$@"; fi
  if [ -n "$PUPGEVENT_PYTHON" ]; then
    echo "pupgevent: PUPGEVENT_PYTHON names $python, and there is no such program" >&2; exit 1
  fi
done
echo "pupgevent: no python3 on the PATH; it needs CPython 3.6 to 3.14" >&2
exit 1
