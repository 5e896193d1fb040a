#!/bin/sh
# Sets a checkout up.
#   setup.sh run VENV    a virtual environment that runs backupready
#   setup.sh test VENV   the same, with what the tests need
#   setup.sh deb|rpm     the Debian packages that the package is built with
#   setup.sh lab         those, and what the booted guest and the checks need; where they cannot be had, says so and goes on
# As root on a machine with apt it installs missing Debian packages by itself; otherwise it names them and ends.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)

has_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

# What comes with a service (dnsmasq, prometheus) is not started: the tests start what they need themselves.
no_service=/usr/sbin/policy-rc.d

apt_install() {
    echo "installing $*" >&2
    if [ ! -e "$no_service" ] && printf '#!/bin/sh\nexit 101\n' >"$no_service"; then
        trap 'rm -f "$no_service"' EXIT
        chmod 755 "$no_service"
    fi
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# The distribution's interpreter comes first: for it the distribution has a built systemd module.
interpreter() {
    for candidate in /usr/bin/python3 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

virtual_environment() {
    venv=$1 extra=$2
    if ! python=$(interpreter); then
        if has_apt; then apt_install python3 python3-venv python3-systemd; fi
        python=$(interpreter) || { echo "cannot set up: there is no python3 of 3.9 or later; install it" >&2; exit 1; }
    fi
    missing=
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="python3-venv"
    "$python" -c 'import systemd.daemon' 2>/dev/null || missing="$missing python3-systemd"
    if [ -n "$missing" ] && [ "$python" = /usr/bin/python3 ] && has_apt; then
        # shellcheck disable=SC2086 # a list of names
        apt_install $missing
    elif [ "${missing%python3-systemd}" != "$missing" ] && command -v pkg-config >/dev/null 2>&1 &&
        pkg-config --exists libsystemd; then
        missing=${missing%python3-systemd}  # it is built from source
        [ -z "${missing# }" ] || { echo "cannot set up: as root, apt-get install $missing" >&2; exit 1; }
    elif [ -n "$missing" ]; then
        echo "cannot set up: missing for $python:$missing" >&2
        echo "as root: apt-get install python3-venv python3-systemd  (others: python3-systemd, or libsystemd's headers," >&2
        echo "pkg-config and a C compiler, to build it from source)" >&2
        exit 1
    fi
    echo "setting up $venv for $("$python" --version)" >&2
    [ -x "$venv/bin/python" ] || "$python" -m venv --system-site-packages "$venv"
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check install --editable "$here$extra"
}

# What a package is built with is known to who builds it.
builders() { "$(interpreter)" "$here/packaging/build.py" "$1" --missing; }

checkers="lintian rpmlint rpm2cpio cpio groff man-db zsh fish sosreport e2fsprogs prometheus prometheus-alertmanager
prometheus-node-exporter chromium"

# Installs what is missing of the named packages; says what stays missing.
debian_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! has_apt; then
        echo "missing:$missing; as root on Debian or Ubuntu: apt-get install$missing" >&2
        return 0
    fi
    # shellcheck disable=SC2086 # a list of names
    apt_install $missing || echo "cannot install$missing; what needs them is skipped" >&2
}

lab_packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "the guest and the packages are built with Debian's tools, which are not here; their tests are skipped" >&2
        return
    fi
    [ "$(id -u)" = 0 ] || echo "the booted guest needs root; its tests are skipped" >&2
    guest=$(PYTHONPATH="$here/tests" "$(interpreter)" -c 'from lab.guest import packages; print(*packages())')
    # shellcheck disable=SC2046,SC2086 # lists of names
    debian_packages $guest $(builders deb) $(builders rpm) $checkers
}

case "${1:-}" in
run) virtual_environment "$2" "" ;;
test) virtual_environment "$2" "[test]" ;;
deb | rpm)
    interpreter >/dev/null || debian_packages python3
    # shellcheck disable=SC2046 # a list of names
    debian_packages $(builders "$1")
    ;;
lab) lab_packages ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
