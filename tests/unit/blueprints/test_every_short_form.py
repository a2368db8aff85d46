"""One file with every short form, and the plain form that it compiles to; each rule has its own test in test_short_forms."""

import json
from pathlib import Path
from typing import Any

from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.loading.loader import load_file, load_text
from flowcraft_server.blueprints.model import Blueprint

WRITTEN = """\
# yaml-language-server: $schema=../.flowcraft/blueprint.schema.json
description: Check a post and act on it.
inputs:
  userPost: string
  userId: {type: string, default: anonymous}
outputs: {moderation_result: moderation_result}
defaults: {timeout: 60s, maxRetries: 2, retryDelay: 500ms}
x-note: ignored

nodes:
  check_for_pii:
    uses: llm-condition
    inputs: {userPost: userPost}
    params: {promptTemplate: "PII?\\n\\n{{userPost}}"}
  check_for_hate_speech:
    uses: llm-process
    inputs: userPost
    params: {promptTemplate: !include prompts/hate.txt}
  triage_post:
    uses: llm-router
    needs: [check_for_pii, check_for_hate_speech]
    inputs: {pii_found: check_for_pii, hate: check_for_hate_speech}
    next:
      action_ban: ban_user
      true: redact
      yes: approve
      010: approve
      "*": approve
    config: {joinStrategy: all, maxRetries: 3, retryDelay: 1s, timeout: 1m, fallback: rule-triage}
  rule-triage: {uses: rules}
  ban_user: {uses: subflow, params: {blueprintId: "401", inputs: {userId: userId}, outputs: {moderation_result: ban}}}
  redact:   {call: "402", inputs: {userPost: userPost}, outputs: {moderation_result: redaction}}
  approve:  {uses: approve-post}
  done:     {uses: notify, needs: {any: [ban_user, redact, approve]}}
  audit: {uses: log}
  audit2: {uses: log}
  archive: {uses: log}

edges:
  - {source: triage_post, target: audit, condition: "result.output.score >= 0.8 && result.output.label in ['spam']", transform: "{label: result.output.label}"}
  - triage_post -[ on ]-> audit2
  - audit -> audit2 -> archive

tests:
  - name: pii is redacted
    input: {userPost: "mail me at a@b.c"}
    mocks: {check_for_pii: {output: true, action: true}, triage_post: {action: action_ban}}
    expect: {status: completed, ran: [redact], notRan: ban_user}
"""
OF_CALLS = {"maxRetries": 2, "retryDelay": 500}
"""The defaults' timeout is for handlers: a child run may wait for people."""
DEFAULTS = {**OF_CALLS, "timeout": 60_000}
PLAIN: dict[str, Any] = {
    "id": "moderation",
    "description": "Check a post and act on it.",
    "inputs": {"userPost": {"type": "string"}, "userId": {"type": "string", "default": "anonymous"}},
    "outputs": {"moderation_result": "moderation_result"},
    "nodes": [
        {
            "id": "check_for_pii",
            "uses": "llm-condition",
            "params": {"promptTemplate": "PII?\n\n{{userPost}}"},
            "inputs": {"userPost": "userPost"},
            "config": DEFAULTS,
        },
        {
            "id": "check_for_hate_speech",
            "uses": "llm-process",
            "params": {"promptTemplate": "Hate? {{userPost}}\n"},
            "inputs": "userPost",
            "config": DEFAULTS,
        },
        {
            "id": "triage_post",
            "uses": "llm-router",
            "inputs": {"pii_found": "check_for_pii", "hate": "check_for_hate_speech"},
            "config": {
                "maxRetries": 3, "retryDelay": 1000, "timeout": 60_000, "fallback": "rule-triage", "joinStrategy": "all",
            },
        },
        {"id": "rule-triage", "uses": "rules", "config": DEFAULTS},
        {
            "id": "ban_user",
            "uses": "subflow",
            "params": {"blueprintId": "401", "inputs": {"userId": "userId"}, "outputs": {"moderation_result": "ban"}},
            "config": OF_CALLS,
        },
        {
            "id": "redact",
            "uses": "subflow",
            "params": {
                "blueprintId": "402", "inputs": {"userPost": "userPost"}, "outputs": {"moderation_result": "redaction"},
            },
            "config": OF_CALLS,
        },
        {"id": "approve", "uses": "approve-post", "config": DEFAULTS},
        {"id": "done", "uses": "notify", "config": {**DEFAULTS, "joinStrategy": "any"}},
        {"id": "audit", "uses": "log", "config": DEFAULTS},
        {"id": "audit2", "uses": "log", "config": DEFAULTS},
        {"id": "archive", "uses": "log", "config": DEFAULTS},
    ],
    "edges": [
        {"source": "check_for_pii", "target": "triage_post"},
        {"source": "check_for_hate_speech", "target": "triage_post"},
        {"source": "triage_post", "target": "ban_user", "action": "action_ban"},
        {"source": "triage_post", "target": "redact", "action": "true"},
        {"source": "triage_post", "target": "approve", "action": "yes"},
        {"source": "triage_post", "target": "approve", "action": "010"},
        {"source": "triage_post", "target": "approve"},
        {"source": "ban_user", "target": "done"},
        {"source": "redact", "target": "done"},
        {"source": "approve", "target": "done"},
        {
            "source": "triage_post",
            "target": "audit",
            "condition": "result.output.score >= 0.8 && result.output.label in ['spam']",
            "transform": "{label: result.output.label}",
        },
        {"source": "triage_post", "target": "audit2", "action": "on"},
        {"source": "audit", "target": "audit2"},
        {"source": "audit2", "target": "archive"},
    ],
}  # fmt: skip


def load(folder: Path) -> Blueprint:
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "prompts" / "hate.txt").write_text("Hate? {{userPost}}\n")
    (folder / "moderation.yaml").write_text(WRITTEN)
    blueprint, diagnostics = load_file(folder / "moderation.yaml")
    assert blueprint is not None
    assert diagnostics == []
    return blueprint


def test_the_plain_form(tmp_path: Path) -> None:
    plain = load(tmp_path).to_plain()
    assert plain == PLAIN
    assert list(plain) == list(PLAIN), "keys keep their order"


def test_the_test_cases_are_read_and_no_part_of_it(tmp_path: Path) -> None:
    assert load(tmp_path).tests == (
        {
            "name": "pii is redacted",
            "input": {"userPost": "mail me at a@b.c"},
            "mocks": {"check_for_pii": {"output": True, "action": "true"}, "triage_post": {"action": "action_ban"}},
            "expect": {"status": "completed", "ran": ["redact"], "notRan": ["ban_user"]},
        },
    )


def test_the_plain_form_is_a_blueprint_file_that_says_the_same(tmp_path: Path) -> None:
    blueprint = load(tmp_path)
    again, diagnostics = load_text(json.dumps(blueprint.to_plain()), "moderation.json", "moderation", "json")
    assert again is not None
    assert diagnostics == []
    assert again.to_plain() == PLAIN
    assert compile_blueprint(again).hash == compile_blueprint(blueprint).hash


def test_what_is_included_is_part_of_the_version(tmp_path: Path) -> None:
    before = compile_blueprint(load(tmp_path)).hash
    (tmp_path / "prompts" / "hate.txt").write_text("Hate at all? {{userPost}}\n")
    blueprint, _ = load_file(tmp_path / "moderation.yaml")
    assert blueprint is not None
    assert compile_blueprint(blueprint).hash != before
