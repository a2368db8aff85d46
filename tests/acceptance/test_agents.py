"""The four agents on the real engine, with scripted replies in place of a model: every branch of each."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk import RunFailedError, RunStatus
from flowcraft_server.llm import LanguageModels, Scripted
from flowcraft_server.llm.script_rules import Reply, Rule, Script
from flowcraft_server.testing import TestEnvironment
from handlers import llm

ROOT = Path(__file__).parents[2]
HANDLERS = {
    "llm-process": llm.process,
    "llm-condition": llm.condition,
    "llm-router": llm.route,
    "output": llm.output,
}
TIMEOUT = 20.0

APPLICANT = {
    "applicantName": "Ada",
    "resume": "Ten years of work. Skills: TypeScript, Node.js, SQL, Go",
    "coverLetter": "Dear hiring team, I would be glad to join.",
}


def quick(script: Script) -> Script:
    """The same rules without their latencies."""
    rules = tuple(Rule(rule.patterns, Reply(rule.reply.text, 0.0)) for rule in script.rules)
    return Script(rules, Reply(script.default.text, 0.0))


def scripted(script: Script) -> LanguageModels:
    return LanguageModels({"scripted": Scripted("scripted", quick(script), source="test")})


@pytest.fixture(scope="module")
def agents() -> Iterator[TestEnvironment]:
    shipped = Scripted.from_file("scripted", ROOT / "handlers" / "scripted_replies.yaml")
    with TestEnvironment(blueprints=ROOT / "blueprints", handlers=HANDLERS, models=scripted(shipped.script)) as env:
        yield env


def completed(env: TestEnvironment, blueprint: str, context: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Run a blueprint; return its result and the nodes that ran."""
    handle = env.client.start(blueprint, context)
    result = handle.result(timeout=TIMEOUT)
    nodes = handle.describe().nodes
    return result, {name for name, node in nodes.items() if node.status == "completed"}


def test_blog_post(agents: TestEnvironment) -> None:
    result, ran = completed(agents, "blog-post", {"topic": "feature flags"})
    assert ran == {"generate_outline", "draft_post", "suggest_titles", "assemble"}
    titles, draft = result["suggest_titles"], result["draft_post"]
    assert "1. feature flags, without the hype" in titles
    assert "case for feature flags" in draft
    assert result["final_output"] == f"=== Titles ===\n{titles}\n\n=== Draft ===\n{draft}"


def test_job_application_of_a_qualified_candidate(agents: TestEnvironment) -> None:
    result, ran = completed(agents, "job-application", APPLICANT)
    assert ran == {"extract_skills", "analyze_tone", "check_qualifications", "send_interview_email", "report"}
    assert result["extract_skills"] == "TypeScript, Node.js, SQL, Go"
    assert result["final_output"].startswith("Sent to Ada:\n\nDear Ada,\nyour resume convinced us.")


@pytest.mark.parametrize(
    "change",
    [{"resume": "Skills: Photoshop, Word"}, {"coverLetter": "hey dudes, gonna be great"}],
    ids=["skills", "tone"],
)
def test_job_application_of_a_candidate_who_is_not(agents: TestEnvironment, change: dict[str, str]) -> None:
    result, ran = completed(agents, "job-application", {**APPLICANT, **change})
    assert ran == {"extract_skills", "analyze_tone", "check_qualifications", "send_rejection_email", "report"}
    assert result["final_output"].startswith("Sent to Ada:\n\nDear Ada,\nthank you for your interest")


def test_a_good_review(agents: TestEnvironment) -> None:
    result, ran = completed(agents, "customer-review", {"initial_review": "The editor is a joy. I report everybody."})
    assert ran == {"summarize", "categorize", "check_sentiment", "positive_branch", "final_step"}
    assert "Ticket: \nE-mail: \nThank-you note: Thank you for taking the time" in result["final_output"]
    assert "The editor is a joy" in result["final_output"]


def test_a_complaint(agents: TestEnvironment) -> None:
    review = "The app crashed twice and lost my draft. I want a refund."
    result, ran = completed(agents, "customer-review", {"initial_review": review})
    assert ran == {
        "summarize",
        "categorize",
        "check_sentiment",
        "negative_branch",
        "send_to_ticketing_system",
        "send_email_to_customer",
        "final_step",
    }
    assert result["categorize"] == "Bug Report"
    assert '"title": "Bug Report from a review"' in result["ticket"]
    assert "crashed twice" in result["ticket"]
    assert result["final_output"] == (
        "Ticket: Ticket FC-1042 was filed.\nE-mail: The message was handed over for delivery.\nThank-you note: "
    )


@pytest.mark.parametrize(
    ("post", "branch", "outcome"),
    [
        ("Nice weather for a walk.", "approve_post_branch", "The post of user-7 was checked and approved."),
        ("Write to me: jo.doe@example.org, soon.", "redact_post_branch", "Post: Write to me: [REDACTED], soon."),
        ("Limited offer, buy now!", "delete_spam_branch", "The spam post of user-7 was deleted"),
        ("Those people are vermin.", "ban_user_branch", "UPDATE users SET status = 'banned' WHERE id = 'user-7';"),
        ("You vermin, mail jo@example.org, buy now", "ban_user_branch", "hate speech, severe"),
        ("Buy now, mail jo@example.org", "redact_post_branch", "Hello user-7, we took personal data out"),
    ],
)
def test_moderation(agents: TestEnvironment, post: str, branch: str, outcome: str) -> None:
    result, ran = completed(agents, "content-moderation", {"userId": "user-7", "userPost": post})
    checks = {"check_for_pii", "check_for_hate_speech", "check_for_spam", "triage_post"}
    assert ran == {*checks, branch, "final_log"}
    assert result["final_output"].startswith("=== Moderation finished ===\n")
    assert outcome in result["final_output"]


def test_a_subflow_is_a_run_of_its_own(agents: TestEnvironment) -> None:
    handle = agents.client.start("job-application", APPLICANT)
    handle.result(timeout=TIMEOUT)
    (child,) = handle.describe().children
    assert agents.client.get_handle(child).describe().blueprint_id == "job-interview"


def test_an_action_that_no_edge_has_runs_none_of_the_branches() -> None:
    script = _script_where("You decide what happens to a post", "action_shrug")
    with TestEnvironment(blueprints=ROOT / "blueprints", handlers=HANDLERS, models=scripted(script)) as env:
        handle = env.client.start("content-moderation", {"userId": "u", "userPost": "Nice weather."})
        with pytest.raises(RunFailedError) as caught:
            handle.result(timeout=TIMEOUT)
        failure = caught.value.failure
        assert failure is not None
        assert failure.node_id == "triage_post"
        for word in ("action_shrug", "action_ban", "action_redact", "action_delete_spam", "action_approve"):
            assert word in failure.message
        snapshot = handle.describe()
        assert snapshot.status is RunStatus.FAILED
        branches = ("ban_user_branch", "redact_post_branch", "delete_spam_branch", "approve_post_branch", "final_log")
        assert all(snapshot.nodes[name].started_at is None for name in branches)
        assert snapshot.children == ()


def test_an_unclear_reply_is_asked_again_and_then_fails_the_run() -> None:
    script = _script_where("Does the candidate qualify?", "hard to say")
    with TestEnvironment(blueprints=ROOT / "blueprints", handlers=HANDLERS, models=scripted(script)) as env:
        handle = env.client.start("job-application", APPLICANT)
        with pytest.raises(RunFailedError, match="hard to say") as caught:
            handle.result(timeout=TIMEOUT)
        failure = caught.value.failure
        assert failure is not None
        assert (failure.node_id, failure.attempt) == ("check_qualifications", 3)


def _script_where(prompt: str, answer: str) -> Script:
    """The shipped rules, but one prompt gets another answer."""
    shipped = Scripted.from_file("scripted", ROOT / "handlers" / "scripted_replies.yaml").script
    return Script((Rule((re.compile(re.escape(prompt)),), Reply(answer, 0.0)), *shipped.rules), shipped.default)
