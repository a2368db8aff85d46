"""The section `api`: what it takes, and what is said about the rest."""

from collections.abc import Callable

import pytest

from flowcraft_server.config.load import LoadResult

Load = Callable[..., LoadResult]
Reported = Callable[..., list[str]]

MODULE = "handlers: {h: 'json:dumps'}\n"
TOKEN = "{name: ci, role: operate, token: 0123456789abcdef}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "api: {bind: '0.0.0.0:80'}",
            "flowcraft.yaml:2:13   api.bind: 0.0.0.0 needs api.auth.tokens (anyone could start runs); or bind 127.0.0.1",
        ),
        ("api: {bind: '10.0.0.1:80'}", "api.bind: 10.0.0.1 needs api.auth.tokens"),
        ("api: {bind: example.org:80}", "api.bind: example.org needs api.auth.tokens"),
        ("api: {bind: localhost}", "api.bind: expected HOST:PORT such as 127.0.0.1:8088 or [::1]:8088, got 'localhost'"),
        ("api: {bind: 8191}", "api.bind: expected HOST:PORT such as 127.0.0.1:8088 or [::1]:8088, got '8191'"),
        ("api: {bind: 'localhost:70000'}", "api.bind: expected HOST:PORT"),
        ("api: {auth: {tokens: [{name: a, role: operator, token: 0123456789abcdef}]}}", "did you mean 'operate'?"),
        ("api: {auth: {tokens: [{name: a, role: view, token: abc}]}}", "token: needs 16 characters at least"),
        ("api: {auth: {tokens: [{name: a, role: view, token: 'a b c d e f g h i j'}]}}", "may only have printable ASCII"),
        (f"api: {{auth: {{tokens: [{TOKEN}, {TOKEN}]}}}}", "api.auth.tokens: two of them have the same name"),
        ("api: {allowedHosts: ['https://x.org']}", "api.allowedHosts: expected names such as flows.example.org"),
        ("api: {maxRequest: 100}", "api.maxRequest: 100 has no unit"),
        ("api: {tokens: []}", "api.tokens: unknown key"),
    ],
)  # fmt: skip
def test_mistakes_are_reported(reported: Reported, text: str, shown: str) -> None:
    assert any(shown in line for line in reported(MODULE + text)), reported(MODULE + text)


def test_what_is_right(load: Load) -> None:
    text = (
        f"api: {{bind: '[::1]:0', auth: {{tokens: [{TOKEN}], session: 1h}}, allowedHosts: ['*.X.org'], readOnly: on}}\n"
    )
    loaded = load(MODULE + text)
    assert loaded.settings is not None
    api = loaded.settings.api
    assert (api.host, api.port, api.is_loopback, api.allowed_hosts, api.read_only) == (
        "::1",
        0,
        True,
        ("*.x.org",),
        True,
    )
    assert "0123456789abcdef" in loaded.secrets
    assert loaded.secrets.isdisjoint({"ci", "operate"}), "the name of a token and its role are no secrets"
    assert load(MODULE + "api: off").settings.api.enabled is False


HOOK = "handlers: {{h: 'json:dumps'}}\nhooks: {{{name}: {{blueprint: b, secret: 0123456789abcdef{more}}}}}\n"


@pytest.mark.parametrize(
    ("name", "more", "shown"),
    [
        ("a", ", input: 'body..x'", "hooks.a.input: column 6:"),
        ("a", ", input: 'ctx.x'", "hooks.a.input: 'ctx' is not there to be read; there are body, headers, query"),
        ("a", ", dedupe: result", "hooks.a.dedupe: 'result' is not there to be read"),
        ("a", ", scheme: stripe", "hooks.a.scheme: expected standard or github, got 'stripe'"),
        ("a", ", tolerance: 0s", "hooks.a.tolerance: must be at least 1s, got '0s'"),
        ("a b", "", "the name of a webhook is 1 to 64 of"),
        ("a", "", "flowcraft.yaml:2:24   hooks.a.blueprint: no blueprint 'b'"),
    ],
)
def test_mistakes_in_webhooks_are_reported(reported: Reported, name: str, more: str, shown: str) -> None:
    text = HOOK.format(name=name, more=more)
    assert any(shown in line for line in reported(text)), reported(text)


def test_the_secret_of_a_webhook_is_masked(load: Load) -> None:
    loaded = load(HOOK.format(name="a", more=""), with_blueprints=False)
    assert loaded.settings is not None
    assert "0123456789abcdef" in loaded.secrets
