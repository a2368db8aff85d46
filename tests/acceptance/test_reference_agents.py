"""The original's own blueprint files, unchanged, on the real engine. Collected only where the files are at hand."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk import RunFailedError
from flowcraft_server.llm import LanguageModels, Scripted
from flowcraft_server.llm.script_rules import Reply, Rule, Script
from flowcraft_server.testing import TestEnvironment
from handlers import llm

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "blueprints"
HANDLERS = {
    "llm-process": llm.process,
    "llm-condition": llm.condition,
    "llm-router": llm.route,
    "output": llm.output,
}
TIMEOUT = 20.0
APPLICANT = {"applicantName": "Ada", "resume": "TypeScript, Node.js, SQL", "coverLetter": "Dear Sir or Madam"}

# What a prompt asks, and the answer; a prompt that none of them knows is echoed, cut short.
ANSWERS: tuple[tuple[str, str], ...] = (
    (r"^Extract a list of all technical skills.*Photoshop", "Photoshop"),
    (r"^Extract a list of all technical skills", "TypeScript, Node.js, SQL"),
    (r"^Analyze the tone", "professional"),
    (r"list of skills `TypeScript, Node\.js, SQL`", "True."),
    (r"list of skills `", "not true"),
    (r"^Summarize this review.*(?:crash|lost)", "It crashed."),
    (r"^Summarize this review", "It is a joy."),
    (r"^Categorize this review.*crash", "Bug Report"),
    (r"sentiment of this summary positive\? 'It is a joy", "true"),
    (r"sentiment of this summary positive", "false"),
    (r"Personally Identifiable Information \(PII\) like.*Text: .*@", "true"),
    (r"Personally Identifiable Information \(PII\) like", "false"),
    (r"^Analyze the following text for hate speech.*vermin", "severe"),
    (r"^Analyze the following text for hate speech", "none"),
    (r"appear to be commercial spam.*buy now", "true"),
    (r"appear to be commercial spam", "false"),
    (r"single most appropriate action.*Level: severe", "action_ban"),
    (r"single most appropriate action.*PII Found: true", "action_redact"),
    (r"single most appropriate action.*Spam Detected: true", '"action_delete_spam"'),
    (r"single most appropriate action", "action_approve"),
    (r"^(?P<start>.{1,60})", "<{{ start }}>"),
)


def scripted(*first: tuple[str, str]) -> LanguageModels:
    rules = (
        Rule((re.compile(match, re.DOTALL | re.IGNORECASE),), Reply(text, 0.0)) for match, text in (*first, *ANSWERS)
    )
    return LanguageModels({"scripted": Scripted("scripted", Script(tuple(rules), Reply("", 0.0)), source="test")})


if REFERENCE.is_dir():

    @pytest.fixture(scope="module")
    def reference() -> Iterator[TestEnvironment]:
        with TestEnvironment(blueprints=REFERENCE, handlers=HANDLERS, models=scripted()) as env:
            yield env

    @pytest.mark.parametrize(
        ("blueprint", "context", "skipped", "expected"),
        [
            ("100", {"topic": "tea"}, set(), ["--- TITLES ---\n<Suggest 5", "--- DRAFT ---\n<Write a full-length"]),
            ("200", APPLICANT, {"send_rejection_email"}, ["Final email sent to Ada:", "inviting Ada"]),
            (
                "200",
                {**APPLICANT, "resume": "Photoshop"},
                {"send_interview_email"},
                ["<Write a polite", "email to Ada"],
            ),
            (
                "300",
                {"initial_review": "What a joy"},
                {"negative_branch", "send_to_ticketing_system", "send_email_to_customer"},
                ['Positive Flow Result: <Write a friendly "thank you"', "Ticket System: \n"],
            ),
            (
                "300",
                {"initial_review": "It crashed"},
                {"positive_branch"},
                ["Ticket System: <--- SIMULATING API CALL", "Customer Email: <--- SIMULATING EMAIL"],
            ),
            (
                "400",
                {"userId": "u1", "userPost": "hello"},
                {"ban_user_branch", "redact_post_branch", "delete_spam_branch"},
                ["MODERATION COMPLETE", "<The user post from u1"],
            ),
            (
                "400",
                {"userId": "u1", "userPost": "I am a@b.c"},
                {"ban_user_branch", "approve_post_branch", "delete_spam_branch"},
                ["Post Edited for PII", "<Find any Personally"],
            ),
            (
                "400",
                {"userId": "u1", "userPost": "buy now"},
                {"ban_user_branch", "approve_post_branch", "redact_post_branch"},
                ["<Simulate the actions of deleting a spam post"],
            ),
            (
                "400",
                {"userId": "u1", "userPost": "vermin"},
                {"delete_spam_branch", "approve_post_branch", "redact_post_branch"},
                ["User Banned Successfully.", "<Simulate a database update to ban"],
            ),
        ],
    )
    def test_every_branch_ends(
        reference: TestEnvironment, blueprint: str, context: Mapping[str, Any], skipped: set[str], expected: list[str]
    ) -> None:
        handle = reference.client.start(blueprint, context)
        result = handle.result(timeout=TIMEOUT)
        for text in expected:
            assert text in result["final_output"]
        nodes = handle.describe().nodes
        assert {name for name, node in nodes.items() if node.status == "skipped"} == skipped
        assert {node.status for node in nodes.values()} <= {"completed", "skipped"}

    def test_all_eleven_files_are_there(reference: TestEnvironment) -> None:
        ids = {info.id for info in reference.client.blueprints()}
        assert ids == {"100", "200", "201", "202", "300", "301", "302", "400", "401", "402", "403"}

    def test_an_unknown_code_bans_nobody() -> None:
        models = scripted(("single most appropriate action", "action_shrug"))
        with TestEnvironment(blueprints=REFERENCE, handlers=HANDLERS, models=models) as env:
            handle = env.client.start("400", {"userId": "u1", "userPost": "hello"})
            with pytest.raises(RunFailedError, match=r"triage_post.*action_shrug.*action_ban"):
                handle.result(timeout=TIMEOUT)
            nodes = handle.describe().nodes
            assert not any(nodes[name].started_at for name in nodes if name.endswith("_branch") or name == "final_log")
