"""Whom does the emulated storage show? Certificates that openssl makes anew for each guest."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .fabric import STORAGE_HOST

_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]


def make(directory: Path) -> Path:
    """good.pem, signed by the authority that is returned, and foreign.pem, signed by one that nobody is told of; each
    with its key. The authorities' organisation is the one that signs the certificates of Azure's storage."""
    directory.mkdir()
    for name, organisation in (("good", "Microsoft Corporation"), ("foreign", "A proxy that looks inside")):
        authority, key = directory / f"{name}-authority.crt", directory / f"{name}-authority.key"
        _openssl(
            *f"req -x509 {' '.join(_NEW_KEY)} -keyout {key} -out {authority}".split(),
            *("-subj", f"/O={organisation}/CN=Authority of the lab", "-addext", "basicConstraints=critical,CA:TRUE"),
        )
        own, signed = directory / f"{name}.key", directory / f"{name}.crt"
        _openssl(
            *f"req -x509 {' '.join(_NEW_KEY)} -keyout {own} -out {signed} -CA {authority} -CAkey {key}".split(),
            *("-subj", f"/O=The lab/CN={STORAGE_HOST}", "-addext", f"subjectAltName=DNS:{STORAGE_HOST}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
        (directory / f"{name}.pem").write_text(own.read_text() + signed.read_text())
    return directory / "good-authority.crt"


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
