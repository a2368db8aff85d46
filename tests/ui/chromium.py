"""Where Chromium is. `python -m tests.ui.chromium` installs Debian's if there is none and that is possible."""

import os
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
MISSING = "no Chromium is on the PATH; on Debian: apt install chromium"


def find_chromium() -> str | None:
    """The path of the browser, `FLOWCRAFT_CHROMIUM` if it is set; None if there is none."""
    named = os.environ.get("FLOWCRAFT_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


def main() -> None:
    """Install Debian's Chromium if none is there, this is root, and there is apt-get."""
    if find_chromium() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (
            ["apt-get", "update"],
            ["apt-get", "install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
        ):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    print(f"test-ui: {find_chromium() or 'SKIPPED, ' + MISSING}")


if __name__ == "__main__":
    main()
