"""`python -m backupready` is the same as `backupready`."""

import sys

from backupready.cli import main

sys.exit(main())
