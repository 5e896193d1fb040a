"""Write every rendered file below the source tree that is named: `python -m backupready.catalogue .`"""

from __future__ import annotations

import sys
from pathlib import Path

from backupready.catalogue import rendered


def main() -> int:
    """All or nothing: what cannot be rendered keeps the rest from being written."""
    tree = Path(sys.argv[1])
    texts = {name: render() for name, render in rendered.FILES.items()}
    for name, text in texts.items():
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
