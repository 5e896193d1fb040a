# Sets `python` to an interpreter of 3.9 or later, or to nothing. Read by /usr/bin/backupready and by the rpm's scriptlets.
# Starts no process: it is read for every look.
python=

# The distribution's own comes first: for it the distribution has a built systemd module. Its version is in the name of
# the file that it is a link to.
for exact in /usr/bin/python3.[0-9] /usr/bin/python3.[0-9][0-9]; do
    if [ /usr/bin/python3 -ef "$exact" ]; then
        case $exact in
        *.[0-8]) ;;
        *) python=/usr/bin/python3 ;;
        esac
    fi
done

# EL8 and SLES 15 have 3.6 as python3, and later ones beside it.
for minor in 13 12 11 10 9; do
    for directory in /usr/bin /usr/local/bin; do
        if [ -z "$python" ] && [ -x "$directory/python3.$minor" ]; then
            python=$directory/python3.$minor
        fi
    done
done
