"""Checks a blueprint that an editor sends, against what is published and what the workers have."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from flowcraft_sdk import AsyncClient
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.linting.catalog import Catalog
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import load_text
from flowcraft_server.blueprints.model import Blueprint, Diagnostic

from .bodies import BlueprintText, Finding, Findings

MOST_BLUEPRINTS = 1_000
"""Published blueprints that subflows are looked up among."""


async def check_blueprint(client: AsyncClient, body: BlueprintText, one_at_a_time: asyncio.Semaphore) -> Findings:
    """What is wrong with a blueprint.

    Handlers are those that the workers of the deployment report; while no worker reports any, they are not checked.

    Args:
        one_at_a_time: a check keeps a processor busy, so that more at once would only keep other requests waiting.
    """
    workers = await client.workers()
    handlers = {name for worker in workers for name in worker.handlers or ()}
    known = handlers if handlers and all(worker.handlers is not None for worker in workers) else None
    documents: dict[str, Mapping[str, Any]] = {}
    for info in (await client.blueprints())[:MOST_BLUEPRINTS]:
        documents[info.id] = (await client.blueprint(info.id, version=info.version)).document
    async with one_at_a_time:
        return await asyncio.to_thread(_check, body, known, documents)


def _check(body: BlueprintText, handlers: set[str] | None, documents: Mapping[str, Mapping[str, Any]]) -> Findings:
    blueprint, diagnostics = load_text(body.text, "", body.id)
    found = list(diagnostics)
    if blueprint is not None:
        published = {name: _loaded(name, document) for name, document in documents.items() if name != blueprint.id}
        catalog = Catalog(
            {name: each for name, each in published.items() if each is not None} | {blueprint.id: blueprint}
        )
        specs = None if handlers is None else {name: HandlerSpec() for name in handlers}
        found += lint(blueprint, handlers=specs, blueprints=catalog)
    findings = [_finding(each) for each in dict.fromkeys(found)]
    return Findings(valid=all(each.severity != "error" for each in findings), findings=findings)


def _loaded(name: str, document: Mapping[str, Any]) -> Blueprint | None:
    return load_text(json.dumps(document), name, name)[0]


def _finding(diagnostic: Diagnostic) -> Finding:
    position = diagnostic.position
    return Finding(
        severity=diagnostic.severity,
        line=None if position is None else position.line,
        column=None if position is None else position.column,
        path=diagnostic.path,
        message=diagnostic.message,
    )
