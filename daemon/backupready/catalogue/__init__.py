"""What is derived from the declarations? Here the table of settings; what is rendered from them is in `rendered`.

The daemon imports this, so nothing that only renders may be imported here.
"""

from __future__ import annotations

from backupready import config, probes
from backupready.model import Setting

SETTINGS: tuple[Setting, ...] = config.table(probes.PROBES)
