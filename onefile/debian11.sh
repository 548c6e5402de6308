#!/bin/sh
# Run dist/pupgevent as an ordinary user in a Debian 11 made for it: Python 3.9, glibc 2.31,
# and for the first words no home. Needs root and debootstrap; takes the mirror that apt is set up with.
set -eu
file=$(readlink -f "$1")
here=$(readlink -f "$(dirname "$0")")
[ "$(id -u)" = 0 ] || { echo "debian11.sh: only root can make a chroot" >&2; exit 1; }

# "URIs: ..." of deb822, else "deb [...] URI suite ..." of the older format.
mirror=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
  sed -n 's/^URIs: *\([^ ]*\).*/\1/p' | grep -v security | head -n 1)
[ -n "$mirror" ] || mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
  sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p' | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "debian11.sh: apt names no mirror" >&2; exit 1; }

root=$(mktemp -d "${TMPDIR:-/tmp}/pupgevent-debian11.XXXXXX")
trap 'umount "$root/proc" 2>/dev/null; rm -rf --one-file-system "$root"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$root"
debootstrap --variant=minbase --include=python3 bullseye "$root" "$mirror" >"$root.log" 2>&1 ||
  { tail -n 20 "$root.log" >&2; rm -f "$root.log"; exit 1; }
rm -f "$root.log"
mount -t proc proc "$root/proc"

chroot "$root" useradd --no-create-home --home-dir /nonexistent --shell /bin/sh service
mkdir "$root/job"
install -m 755 "$file" "$root/job/pupgevent"
install -m 644 "$here/smoke.py" "$root/job/smoke.py"
chroot "$root" sh -ec '
  ldd --version | head -n 1
  su service -c "cd / && /job/pupgevent --version && ls -d /var/tmp/pupgevent-cache-*"
  su service -c "cd /job && exec python3 smoke.py pupgevent /usr/bin/python3"
'
