"""Finds the blueprints that a command line names: files, blueprints of the deployment, published ones and versions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowcraft_sdk.errors import BlueprintNotFoundError
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import FORMATS, load_file
from flowcraft_server.blueprints.model import Blueprint, Diagnostic
from flowcraft_server.blueprints.suggestions import nearest
from flowcraft_server.config.blueprint_files import handler_routes
from flowcraft_server.config.load import LoadResult, load_config

from .client_errors import EXIT_USAGE
from .diagnostic_output import print_diagnostics

if TYPE_CHECKING:
    from flowcraft_sdk import BlueprintVersion, Client

CURRENT = "published"
SHORTEST_VERSION = 4


@dataclass(frozen=True, slots=True)
class FoundBlueprint:
    """A blueprint and where it was found.

    Attributes:
        version: hash of its plan; "" for one that cannot be compiled.
        origin: its file, or `published`.
        findings: what the linter says of it.
    """

    blueprint: Blueprint
    version: str
    origin: str
    findings: tuple[Diagnostic, ...] = ()


class BlueprintSource:
    """Where blueprints are looked for.

    Args:
        config: the deployment's file, None for no deployment.
        connect: makes a client, for published blueprints.
        profile: name of a profile of the file.
    """

    def __init__(self, config: Path | None, connect: "Callable[[], Client]", profile: str | None = None) -> None:
        self._config = config
        self._profile = profile
        self._connect = connect

    @cached_property
    def deployment(self) -> LoadResult | None:
        """The deployment, its handlers not imported."""
        return None if self._config is None else load_config(self._config, profile=self._profile, with_handlers=False)

    @cached_property
    def client(self) -> "Client":
        """A client of the deployment."""
        return self._connect()

    def find(self, reference: str) -> FoundBlueprint:
        """The blueprint that is meant: a file, an id, `ID@VERSION` or `ID@published`.

        Raises:
            BlueprintNotFoundError: there is none.
            click.exceptions.Exit: it is a file that cannot be read; what is wrong was printed.
        """
        if Path(reference).suffix.lower() in FORMATS:
            return self.from_file(Path(reference))
        for blueprint in self._blueprints:
            if blueprint.id == reference:
                return self._found(blueprint, blueprint.file or "")
        blueprint_id, at, version = reference.rpartition("@")
        if at and blueprint_id:
            return self.published(blueprint_id, None if version == CURRENT else version)
        if self.deployment is None:
            return self.published(reference)
        try:
            return self.published(reference)
        except BlueprintNotFoundError as error:
            near = nearest(reference, [blueprint.id for blueprint in self.deployment.blueprints])
            known = error.known or ([near] if near else [])
            raise BlueprintNotFoundError(reference, known=known, published=error.published) from None

    def from_file(self, path: Path) -> FoundBlueprint:
        """The blueprint of a file, as its deployment runs it if it belongs to one."""
        blueprint, diagnostics = load_file(path)
        if blueprint is None or any(diagnostic.severity == "error" for diagnostic in diagnostics):
            print_diagnostics(diagnostics, "text")
            raise click.exceptions.Exit(EXIT_USAGE)
        for ours in self._blueprints:  # with what the deployment adds to it
            if ours.file is not None and Path(ours.file).resolve() == path.resolve():
                blueprint = ours
        return self._found(blueprint, str(path))

    def of_deployment(self) -> list[FoundBlueprint]:
        """The blueprints of the deployment's files."""
        return [self._found(blueprint, blueprint.file or "") for blueprint in self._blueprints]

    @property
    def _blueprints(self) -> Sequence[Blueprint]:
        return self.deployment.blueprints if self.deployment is not None else []

    def published(self, blueprint_id: str, version: str | None = None) -> FoundBlueprint:
        """A published blueprint, the current one or another version of it by the beginning of its hash.

        Raises:
            BlueprintNotFoundError: there is none.
        """
        infos = {info.id: info for info in self.client.blueprints()}
        if version is None:
            if blueprint_id not in infos:
                near = nearest(blueprint_id, infos)
                raise BlueprintNotFoundError(blueprint_id, known=[near] if near else [], published=sorted(infos))
            version = infos[blueprint_id].version
        if len(version) < SHORTEST_VERSION or not version.isalnum():
            raise click.UsageError(f"a version is the hash of a plan, {SHORTEST_VERSION} characters of it or more")
        matching = [each for each in self._versions(blueprint_id) if each.version.startswith(version)]
        if not matching:
            raise BlueprintNotFoundError(blueprint_id, version)
        if len(matching) > 1:
            raise click.UsageError(
                f"{blueprint_id}@{version}: {len(matching)} versions begin like this, write more of it"
            )
        found = self.client.blueprint(blueprint_id, version=matching[0].version)
        return FoundBlueprint(Blueprint.from_plain(found.document), found.version, CURRENT)

    def _versions(self, blueprint_id: str) -> "list[BlueprintVersion]":
        try:
            return self.client.blueprint_versions(blueprint_id)
        except BlueprintNotFoundError:
            return []

    def _found(self, blueprint: Blueprint, origin: str) -> FoundBlueprint:
        by_id = {other.id: other for other in self._blueprints} | {blueprint.id: blueprint}
        findings = tuple(lint(blueprint, handlers=None, blueprints=by_id))
        broken = not blueprint.complete or any(finding.severity == "error" for finding in findings)
        settings = self.deployment.settings if self.deployment is not None else None
        version = "" if broken else compile_blueprint(blueprint, handler_routes(settings)).hash
        return FoundBlueprint(blueprint, version, origin, findings)
