"""The directory of backupready and its libraries, started as a program."""

import sys

from backupready.cli import main

sys.exit(main())
