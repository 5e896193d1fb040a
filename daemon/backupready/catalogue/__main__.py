"""Write every rendered file below the source tree that is named: `python -m backupready.catalogue .`"""

from __future__ import annotations

import sys
from pathlib import Path

from backupready.catalogue import rendered


def main() -> int:
    """What cannot be rendered keeps the rest from being written; only where a generator is not installed the file is
    left as it is, and named: exit 1."""
    tree = Path(sys.argv[1])
    texts, lacking = {}, False
    for name, render in rendered.FILES.items():
        try:
            texts[name] = render()
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in rendered.GENERATORS:
                raise
            lacking = True
            sys.stderr.write(f"cannot render {name} without {error.name}: install the test extra\n")
    for name, text in texts.items():
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return int(lacking)


if __name__ == "__main__":
    sys.exit(main())
