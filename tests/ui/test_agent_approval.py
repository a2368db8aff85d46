"""A person agrees to a tool call of an agent in the inbox, and the page of the run shows what the agent did."""

from typing import Any

import pytest

pytest.importorskip("pydantic_ai")

from flowcraft_sdk import NodeContext, handler
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.openai_compatible import Endpoint, OpenAICompatible
from flowcraft_server.testing import TestEnvironment
from tests.engine.test_agents import Query, calls
from tests.ui.site import Served, until_waiting
from tests.unit.llm.chat_server import chat_server, reply

MAIL = "Dear Ada, <b>your order</b> is on its way"


def test_a_tool_call_is_agreed_to_by_clicking(open_page: Any) -> None:
    sent: list[Any] = []

    @handler(arguments=Query)
    def send_mail(ctx: NodeContext) -> str:
        sent.append(ctx.input)
        return "sent"

    blueprint = {
        "id": "desk",
        "nodes": [{
            "id": "clerk", "uses": "agent", "inputs": "question",
            "params": {"model": "main", "tools": ["send_mail"], "approve": ["send_mail"]},
        }],
    }  # fmt: skip
    with chat_server(calls(("send_mail", {"text": MAIL})), reply("The mail is sent.")) as server:
        models = LanguageModels({"main": OpenAICompatible("main", Endpoint(server.url, "key", "test"))})
        with TestEnvironment(blueprints=blueprint, handlers={"send_mail": send_mail}, models=models) as env:
            served = Served(env.url, env.namespace)
            try:
                run = env.client.start("desk", {"question": "Write to Ada"}, run_id="mail-1")
                until_waiting(run)
                page = open_page().page
                page.goto(f"{served.url}/waiting")
                panel = page.locator('section[data-key^="mail-1/"]')
                assert MAIL in panel.inner_text(), "the arguments are shown, as text"
                assert not sent
                panel.locator("button", has_text="approve").click()
                panel.wait_for(state="detached")
                assert run.result(timeout=60)
                assert [each["text"] for each in sent] == [MAIL]
                page.goto(f"{served.url}/runs/mail-1?node=clerk")
                steps = page.locator("aside.side")
                steps.get_by_text("The mail is sent.").first.wait_for()
                assert "send_mail" in steps.inner_text()
            finally:
                served.stop()
