"""What would the distribution offer? A package archive in the guest, with a newer build of a package that is installed.

The newer build is the installed package with another version number: its own files and maintainer scripts, which stop
and start what they always do.
"""

from __future__ import annotations

from .guest import Guest

_REPACK = r"""
set -eu
package=$1 version=$2 archive=$3
tree=$(mktemp -d)
mkdir -p "$tree/DEBIAN" "$archive"
dpkg-query --listfiles "$package" | while read -r path; do
    if [ ! -d "$path" ]; then cp -a --parents "$path" "$tree"; fi
done
for script in preinst postinst prerm postrm conffiles; do
    known=/var/lib/dpkg/info/$package.$script
    if [ -e "$known" ]; then cp -a "$known" "$tree/DEBIAN/$script"; fi
done
dpkg-query --status "$package" |
    sed -e '/^Status:/d' -e '/^Conffiles:/d' -e '/^ \//d' -e "s/^Version:.*/Version: $version/" >"$tree/DEBIAN/control"
dpkg-deb --build "$tree" "$archive/$package.deb" >/dev/null
rm -rf "$tree"
{
    dpkg-deb --field "$archive/$package.deb"
    echo "Filename: ./$package.deb"
    echo "Size: $(stat -c %s "$archive/$package.deb")"
    echo "SHA256: $(sha256sum "$archive/$package.deb" | cut -d ' ' -f 1)"
} >"$archive/Packages"
echo "deb [trusted=yes] file:$archive ./" >/etc/apt/sources.list.d/lab.list
rm -f /etc/apt/sources.list
apt-get update -qq
"""
_PLACE = "/srv/lab-archive"


def offer(guest: Guest, package: str, version: str) -> None:
    """Have the guest's apt know of a newer build of an installed package."""
    guest.run("sh", "-c", _REPACK, "repack", package, version, _PLACE, timeout=120)


def withdraw(guest: Guest) -> None:
    """Have it forget again; what has been installed stays."""
    guest.run("rm", "-rf", _PLACE, "/etc/apt/sources.list.d/lab.list")
    guest.run("apt-get", "update", "-qq", check=False)
