"""Whom does the emulated storage show? Certificates that openssl makes anew for each guest."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .fabric import STORAGE_HOST

_DAYS = "2"
_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", _DAYS]


def make(directory: Path) -> Path:
    """good.pem, signed by the authority that is returned, and foreign.pem, signed by one that nobody is told of; each
    with its key. The authorities' organisation is the one that signs the certificates of Azure's storage."""
    directory.mkdir()
    for name, organisation in (("good", "Microsoft Corporation"), ("foreign", "A proxy that looks inside")):
        signer = authority(directory, f"{name}-authority", organisation)
        signed(signer, directory, name, f"DNS:{STORAGE_HOST}")
        own = (directory / f"{name}.key").read_text()
        (directory / f"{name}.pem").write_text(own + (directory / f"{name}.crt").read_text())
    return directory / "good-authority.crt"


def authority(directory: Path, name: str, organisation: str) -> Path:
    """name.crt, which is returned, and name.key beside it."""
    certificate = directory / f"{name}.crt"
    _openssl(
        *f"req -x509 {' '.join(_NEW_KEY)} -keyout {directory / name}.key -out {certificate}".split(),
        *("-subj", f"/O={organisation}/CN=Authority of the lab", "-addext", "basicConstraints=critical,CA:TRUE"),
    )
    return certificate


def signed(signer: Path, directory: Path, name: str, alternative: str, renewed: bool = False) -> None:
    """name.crt and name.key, of who has these alternative names in openssl's form; `renewed` keeps the key."""
    own, certificate = directory / f"{name}.key", directory / f"{name}.crt"
    key = signer.with_suffix(".key")
    keyed = ["-key", str(own), "-days", _DAYS] if renewed else [*_NEW_KEY, "-keyout", str(own)]
    _openssl(
        *f"req -x509 {' '.join(keyed)} -out {certificate} -CA {signer} -CAkey {key}".split(),
        *("-subj", f"/O=The lab/CN={STORAGE_HOST}", "-addext", f"subjectAltName={alternative}"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    )


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
