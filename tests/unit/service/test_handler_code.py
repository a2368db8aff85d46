"""Handler code that has changed is noticed, and checked in a process of its own."""

import importlib
import os
import sys
import time
from pathlib import Path

import pytest

from flowcraft_server.service.handler_code import HandlerCode, check_in_child

ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_files_that_have_changed_since_they_were_imported_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "code_that_changes.py"
    file.write_text("x = 1\n")
    (tmp_path / "not_imported.py").write_text("x = 1\n")
    importlib.import_module("code_that_changes")
    code = HandlerCode(tmp_path, time.time_ns())
    assert code.changed() == []
    file.write_text("x = 22\n")
    assert code.changed() == ["code_that_changes.py"]
    code.accept()
    assert code.changed() == []
    file.unlink()
    assert code.changed() == ["code_that_changes.py"]
    file.write_text("x = 1\n")
    assert HandlerCode(tmp_path, file.stat().st_mtime_ns).changed() == ["code_that_changes.py"], "written meanwhile"


def test_a_deployment_is_checked_as_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "flowcraft.yaml"
    file.write_text("name: checked\nhandlers: {a: checked_code:a}\n")
    (tmp_path / "checked_code.py").write_text("def a(ctx): ...\n")
    checked = check_in_child(file, None, ENVIRON)
    assert (checked.errors, checked.failure) == ([], "")
    (tmp_path / "checked_code.py").write_text("import nothing_of_that_name\n")
    (error,) = check_in_child(file, None, ENVIRON).errors
    assert "cannot import 'checked_code'" in error.message
    assert error.position is not None
    assert error.position.line == 2
    (tmp_path / "checked_code.py").write_text("import os\nos._exit(3)\n")
    assert "exit code 3" in check_in_child(file, None, ENVIRON).failure
