"""What all pages share: the templates, the addresses, and what is known of the sender."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import FastAPI, Request
from jinja2.runtime import Context
from starlette.responses import HTMLResponse

from flowcraft_sdk import AsyncClient, FlowcraftError, RunStatus
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.node_kinds import WAITS_FOR
from flowcraft_sdk.protocol.tagged_values import json_values
from flowcraft_sdk.records.counts import counted
from flowcraft_server import __version__
from flowcraft_server.api.access import Principal, Role
from flowcraft_server.api.options import ApiOptions
from flowcraft_server.api.runs import PREFIX

from . import formats
from .assets import assets

PAGES = {
    "overview": "/",
    "runs": "/runs",
    "waiting": "/waiting",
    "blueprints": "/blueprints",
    "operations": "/operations",
    "find": "/find",
}
COUNT_SECONDS = 2.0
"""How long a page waits for the number of waiting runs, and for how long it is not asked for again after that was in vain."""

_ICONS = {
    "recovered": "completed",
    "timed_out": "failed",
    "lost": "failed",
    "ready": "queued",
    "scheduled": "queued",
    "cancelling": "cancelled",
    "unknown": "pending",
    "added": "plus",
    "removed": "minus",
    "none": "pending",
    "models": "line",
}


@jinja2.pass_context
def _moment(context: Context, at: datetime | None) -> str:
    return formats.moment(at, context["now"])


@jinja2.pass_context
def _ago(context: Context, at: datetime | None) -> str:
    return formats.ago(at, context["now"])


@jinja2.pass_context
def _took(context: Context, each: Any) -> str:
    """How long a run, a node or an attempt took, or takes by now."""
    return formats.duration(formats.between(each.started_at, each.ended_at, context["now"]))


def url(page: str, *parts: str) -> str:
    """The address of a page."""
    path = PAGES[page]
    return "/".join([path.rstrip("/"), *(quote(part, safe="") for part in parts)]) if parts else path


def with_query(path: str, query: Mapping[str, str | Sequence[str] | None]) -> str:
    """An address with a query; what has no value is left out, a name with several values is there for each."""
    given = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


class Renderer:
    """Makes pages.

    Args:
        app: the application that they belong to.
        now: the time that they go by.
    """

    def __init__(self, app: FastAPI, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._app = app
        self.now = now
        self._failed_at = float("-inf")
        self._environment = self._make_environment(None)
        self._masking_environment = self._make_environment(self._masked)

    def _make_environment(self, finalize: Callable[[Any], Any] | None) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader(__package__ or "", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=finalize,
        )
        files = assets()
        environment.globals.update(
            asset=lambda name: f"/ui/{files.digest}/{name}",
            url=url,
            api_path=PREFIX,
            version=__version__,
            namespace=self._app.state.options.namespace,
        )
        environment.filters.update(
            counted=counted,
            words=formats.words,
            duration=formats.duration,
            exact=formats.exact,
            value=formats.value,
            waits_for=lambda kind: WAITS_FOR.get(str(kind), str(kind)),
            state_icon=lambda name: _ICONS.get(str(name), str(name)),
            moment=_moment,
            ago=_ago,
            took=_took,
        )
        return environment

    def _masked(self, value: Any) -> Any:
        """What a template writes for the role view: texts of errors may hold secrets, too."""
        options: ApiOptions = self._app.state.options
        return options.redactor.clean(value) if type(value) is str else value

    @property
    def client(self) -> AsyncClient:
        """The SDK's client."""
        client: AsyncClient = self._app.state.client
        return client

    def shown(self, principal: Principal, value: Any, name: str = "") -> str:
        """A value of a user as text; for the role view with secrets masked.

        Args:
            principal: sender of the request.
            value: the value.
            name: its name, which may say that it is a secret.
        """
        found = json_values(value)
        if principal.role is Role.VIEW:
            options: ApiOptions = self._app.state.options
            found = options.redactor.clean_value({name: found})[name]
        return formats.value(found)

    async def page(
        self,
        request: Request,
        template: str,
        page: str,
        title: str,
        *,
        status: int = 200,
        live: str = "",
        **values: Any,
    ) -> HTMLResponse:
        """Make a page.

        Args:
            template: name of its file.
            page: which part of the menu it belongs to.
            title: what the browser calls it.
            status: the status code.
            live: address of the stream that announces changes.
            values: what the template needs.
        """
        principal: Principal | None = getattr(request.state, "principal", None)
        read_only = self._app.state.options.read_only
        values |= {
            "page": page,
            "now": self.now(),
            "title": title,
            "live": live,
            "principal": principal,
            "may_operate": principal is not None and principal.role is not Role.VIEW and not read_only,
            "waiting_count": await self._waiting_runs() if principal is not None else 0,
        }
        masking = principal is not None and principal.role is Role.VIEW
        environment = self._masking_environment if masking else self._environment
        text = environment.get_template(template).render(values)
        return HTMLResponse(text, status, {"cache-control": "no-store"})

    async def _waiting_runs(self) -> int:
        """How many runs wait, read for each page: one that is a moment old would stay on a page that does not change again."""
        if clock() - self._failed_at > COUNT_SECONDS:
            try:
                async with asyncio.timeout(COUNT_SECONDS):
                    return await self.client.count_runs(status=RunStatus.WAITING)
            except (FlowcraftError, TimeoutError):
                self._failed_at = clock()
        return 0
