"""`make check` passes on a machine without Node.js: the types of the scripts are not checked then, and that is in its output."""

import json
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
NEEDED = ("sh", "dirname", "cmp", "mkdir", "cp")


def test_without_node_it_is_skipped_in_one_line(tmp_path: Path) -> None:
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None, name
        (tmp_path / name).symlink_to(found)
    check = [str(ROOT / ".ci/check-scripts"), str(tmp_path / "typescript")]
    done = subprocess.run(check, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "check-scripts: SKIPPED, node and npm are needed, and not on the PATH\n"


def test_one_version_is_pinned_by_its_hash_and_names_no_host() -> None:
    package = json.loads((ROOT / ".ci/typescript/package.json").read_text("utf-8"))
    text = (ROOT / ".ci/typescript/package-lock.json").read_text("utf-8")
    found = json.loads(text)["packages"]["node_modules/typescript"]
    assert found["version"] == package["devDependencies"]["typescript"]
    assert found["integrity"].startswith("sha512-") and "http" not in text
