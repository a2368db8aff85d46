"""`python -m deploy.image`: builds the root file system of the Dockerfile's image, and tries it.

Needs root and Debian's mmdebstrap, which it installs if that is possible.
Exit code 0 when all held or when it cannot be tried here (one line says why), else 1.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .build import BuildError, bootstrap, build
from .trial import CHECKS, Trial

CONTEXT = Path(__file__).parents[2]
TOOLS = ("mmdebstrap", "unshare", "nsenter", "setpriv", "chroot")


def main() -> int:
    """Build and try."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image", description=main.__doc__)
    parser.add_argument(
        "--base", type=Path, help="keep the base image's root file system here, and use it if it is there"
    )
    parser.add_argument(
        "--dockerfile", type=Path, default=CONTEXT / "Dockerfile", help="another one, on the same context"
    )
    options = parser.parse_args()
    why = _why_not()
    if why:
        print(f"check-image: SKIPPED, {why}")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="flowcraft-image-"))
    folder.chmod(0o755)
    try:
        return _try(options.dockerfile, folder, options.base or folder / "base")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _try(dockerfile: Path, folder: Path, base: Path) -> int:
    began = time.monotonic()
    try:
        if not base.exists():
            print("== mmdebstrap makes the base image", flush=True)
            bootstrap(base)
        (folder / "stages").mkdir()
        image = build(dockerfile, CONTEXT, base, folder / "stages")
    except BuildError as error:
        print(f"check-image: {error}", file=sys.stderr)
        return 1
    print(f"== built in {time.monotonic() - began:.0f} s; trying it", flush=True)
    trial = Trial(image, folder)
    failed = 0
    try:
        for check in CHECKS:
            try:
                print("ok:", check(trial), flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAILED: {check.__name__}: {error}", flush=True)
    finally:
        trial.close()
    print(f"check-image: {len(CHECKS) - failed} of {len(CHECKS)} held in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _why_not() -> str:
    """Why the image cannot be tried on this machine; '' if it can. Installs Debian's mmdebstrap if it is missing."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "it needs root on Linux"
    if not shutil.which("mmdebstrap") and shutil.which("apt-get"):
        for command in (
            ["apt-get", "update"],
            ["apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap"],
        ):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"missing: {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--pid", "--mount", "--ipc", "--uts", "--fork", "mount", "-t", "proc", "proc", "/proc"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"namespaces cannot be made here: {tried.stderr.strip()}" if tried.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
