"""What the demonstration runs: every branch of the four agents, and a run that is cancelled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft_sdk import RunStatus

APPLICATION = {"coverLetter": "Dear hiring team, your work on compilers is why I apply. I would be glad to talk."}


@dataclass(frozen=True, slots=True)
class AgentRun:
    """A run of the demonstration.

    Attributes:
        label: what it is called on the screen.
        ends: the status that it is to end with.
    """

    label: str
    blueprint: str
    context: Mapping[str, Any]
    ends: RunStatus = RunStatus.COMPLETED


RUNS = (
    AgentRun("blog post", "blog-post", {"topic": "feature flags"}),
    AgentRun(
        "application, qualified",
        "job-application",
        {**APPLICATION, "applicantName": "Ada Berg", "resume": "Backend work since 2016. TypeScript, Node.js and SQL."},
    ),
    AgentRun(
        "application, not qualified",
        "job-application",
        {**APPLICATION, "applicantName": "Tom Reyes", "resume": "Graphic design. Skills: Illustrator, Photoshop"},
    ),
    AgentRun("review, happy", "customer-review", {"initial_review": "Setting it up took two minutes! Wonderful."}),
    AgentRun(
        "review, complaint", "customer-review", {"initial_review": "The app crashed twice today. My notes are lost."}
    ),
    AgentRun(
        "moderation, approve", "content-moderation", {"userId": "user-101", "userPost": "Any tips for growing basil?"}
    ),
    AgentRun(
        "moderation, redact",
        "content-moderation",
        {"userId": "user-102", "userPost": "Selling my bike, write to jo.doe@example.org this week."},
    ),
    AgentRun(
        "moderation, spam",
        "content-moderation",
        {"userId": "user-103", "userPost": "Limited offer: watches, 80% off, click here"},
    ),
    AgentRun(
        "moderation, ban", "content-moderation", {"userId": "user-104", "userPost": "People like you are vermin."}
    ),
)

#: Its first node would take a minute.
SLOW_RUN = AgentRun(
    "blog post, cancelled", "blog-post", {"topic": "everything there is to know"}, ends=RunStatus.CANCELLED
)

#: What the pages have to show besides: a run that waits for a person, and one that has failed.
SHOWN_RUNS = (
    AgentRun("newsletter, waits for you", "newsletter", {"topic": "feature flags"}, ends=RunStatus.WAITING),
    AgentRun("long read, over its budget", "long-read", {"topic": "feature flags"}, ends=RunStatus.FAILED),
)
