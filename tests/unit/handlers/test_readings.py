import pytest

from handlers.readings import read_action, read_yes_no


@pytest.mark.parametrize(
    "reply",
    [
        "true",
        "True",
        " TRUE.\n",
        "yes",
        "Yes!",
        '"true"',
        "**True**",
        "`true`",
        "```\ntrue\n```",
        "The answer is true.",
        "Answer: yes",
        "It is true.",
        "It's true",
        "That\u2019s true",
        "True. The post contains an e-mail address.",
        "Yes, there is no doubt about it.",
        "True, and that is not untrue.",
        "not false",
        "The post has an address in it.\n\nAnswer: true",
        "Let me see whether it is false or true.\ntrue",
    ],
)
def test_yes(reply: str) -> None:
    assert read_yes_no(reply) is True


@pytest.mark.parametrize(
    "reply",
    [
        "false",
        "FALSE.",
        "no",
        "No, none of it.",
        "untrue",
        "Untrue.",
        "not true",
        "Not true!",
        "It is not true.",
        "That isn't true.",
        "the final answer is: false",
        "False - it is not true that there is spam",
        "The skills lack SQL.\n**False**",
    ],
)
def test_no(reply: str) -> None:
    assert read_yes_no(reply) is False


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "   ",
        "maybe",
        "I cannot report.",
        "true or false?",
        "true?",
        "Yes and no",
        "No, that is true.",
        "true\nfalse",
        "This is a false positive",
        "no issues were found",
        "It is not possible to say whether this is true",
        "trueish",
        "nothing",
        "construed",
        "1",
        "The statement is neither true nor false",
    ],
)
def test_unclear(reply: str) -> None:
    assert read_yes_no(reply) is None


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("action_ban", "action_ban"),
        ("  action_ban\n", "action_ban"),
        ('"action_ban"', "action_ban"),
        ("'action_ban'.", "action_ban"),
        ('"action_ban."', "action_ban"),
        ("`action_ban`", "action_ban"),
        ("\u201caction_ban\u201d", "action_ban"),
        ("Action_Ban", "Action_Ban"),
        ("I would say action_ban", "I would say action_ban"),
        ("v1.2", "v1.2"),
        ("", ""),
    ],
)
def test_action(reply: str, action: str) -> None:
    assert read_action(reply) == action
