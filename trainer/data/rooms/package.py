"""The Debian package that the furniture comes in: fetched by name, verified, unpacked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xscene.errors import InvalidInput, PreconditionFailed

OUTDATED = "; try apt-get update first"
# What to do on a system without a program.
WITHOUT = {
    "apt-get": "download the package's file elsewhere and give it with --package",
    "dpkg": "install it, it unpacks the package's file",
}


@dataclass(frozen=True)
class Package:
    """A version of a Debian package, and the digest of its file."""

    name: str
    version: str
    sha256: str
    folder: str
    """Where in the package the archives lie."""


FURNITURE = Package(
    name="sweethome3d-furniture",
    version="1.8-1",
    sha256="3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
    folder="usr/share/sweethome3d/furniture",
)


def sha256_of(path: Path) -> str:
    """Digest of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack_archives(
    target: Path, *, file: Path | None = None, package: Package = FURNITURE, timeout_s: float = 600.0
) -> list[Path]:
    """The package's archives under the target; downloaded unless the package's file is given."""
    # The programs run in a folder of their own, where relative paths would lead elsewhere.
    target = target.absolute()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as work:
        folder = Path(work)
        source = file.absolute() if file else _downloaded(package, folder, timeout_s)
        digest = sha256_of(source)
        if digest != package.sha256:
            raise InvalidInput.at(source.name, f"SHA-256 is {digest}, needs {package.sha256}")
        _run(("dpkg", "-x", str(source), str(folder / "tree")), folder, timeout_s)
        for archive in sorted((folder / "tree" / package.folder).glob("*.sh3f")):
            shutil.move(archive, target / archive.name)
    return sorted(target.glob("*.sh3f"))


def _downloaded(package: Package, folder: Path, timeout_s: float) -> Path:
    _run(("apt-get", "download", "-q", f"{package.name}={package.version}"), folder, timeout_s, OUTDATED)
    (found,) = folder.glob("*.deb")
    return found


def _run(command: Sequence[str], folder: Path, timeout_s: float, advice: str = "") -> None:
    program = shutil.which(command[0])
    if program is None:
        raise PreconditionFailed(f"{command[0]} is not installed: {WITHOUT[command[0]]}")
    try:
        result = subprocess.run(  # noqa: S603
            (program, *command[1:]),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PreconditionFailed(f"{command[0]} took longer than {timeout_s:g} s") from None
    if result.returncode:
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:]
        raise PreconditionFailed(f"{' '.join(command[:2])}: {' '.join(last)}{advice}")
