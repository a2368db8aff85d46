"""Agents without the extra: one line says what to install, and nothing of pydantic-ai is loaded by anything else."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowcraft_server.agents.extra import AgentsNotInstalled
from flowcraft_server.agents.handler import AgentServices
from flowcraft_server.config.agents_extra import NEEDED
from flowcraft_server.config.load import load_config


def test_the_node_fails_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ctx: Any = SimpleNamespace(params={}, input="q")
    with pytest.raises(
        AgentsNotInstalled, match=r"^agents need pydantic-ai: pip install 'flowcraft-server\[agents\]'$"
    ):
        AgentServices({}).run(ctx).send(None)


def test_a_worker_loads_nothing_of_it() -> None:
    code = "import sys, flowcraft_server.worker.worker, flowcraft_server.agents; print([m for m in sys.modules if m.startswith('pydantic_ai')])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_what_the_first_agent_needs_is_loaded_before_it_runs() -> None:
    code = (
        "import asyncio, sys\n"
        "from flowcraft_server.agents.extra import load_extra\n"
        "asyncio.run(load_extra())\n"
        "print('pydantic_ai.models.openai' in sys.modules, 'pydantic_ai.mcp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_check_warns_of_agents_that_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.yaml").write_text("inputs: {q: string}\nnodes:\n  a: {uses: agent, inputs: q}\n")
    (tmp_path / "flowcraft.yaml").write_text("blueprints: {dirs: [b]}\n")
    assert load_config(tmp_path / "flowcraft.yaml").diagnostics == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (warning,) = load_config(tmp_path / "flowcraft.yaml").diagnostics
    assert (warning.severity, warning.path, warning.message) == ("warning", "nodes.a.uses", NEEDED)
    assert warning.position is not None
    assert warning.position.line == 3
