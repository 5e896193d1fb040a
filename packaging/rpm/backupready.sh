#!/bin/sh
# Starts backupready, which lies with its libraries in one directory, with an interpreter of this machine.
. /usr/lib64/backupready/interpreter.sh

if [ -z "$python" ]; then
    echo "backupready: cannot start: no Python of 3.9 or later in /usr/bin or /usr/local/bin;" \
        "install python3.11 (on SUSE python311)" >&2
    exit 69  # EX_UNAVAILABLE of sysexits.h
fi
# Isolated: neither the environment nor a user's own packages change what runs.
exec "$python" -I /usr/lib64/backupready "$@"
