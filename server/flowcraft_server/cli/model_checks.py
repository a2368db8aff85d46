"""What keeps model calls from being made here: models of agents without key or library, budgets in USD without a price."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.source_positions import Path, written_path
from flowcraft_server.blueprints.agent_params import AGENT, AgentParams
from flowcraft_server.blueprints.model import Blueprint, Node
from flowcraft_server.config.agents_extra import has_extra, has_models_extra
from flowcraft_server.config.load import LoadResult

if TYPE_CHECKING:
    from flowcraft_server.llm.models import LanguageModels
    from flowcraft_server.llm.provider import Provider

_INSTALL = ", or install the prices of public models with: pip install 'flowcraft-server[agents]'"


def with_model_checks(loaded: LoadResult) -> LoadResult:
    """The deployment with warnings about models that cannot be called from here, each at its place. No call is made.

    They are warnings: workers may have another environment than the machine that checks.
    """
    if loaded.settings is None:
        return loaded
    agents_of = {} if AGENT in loaded.handlers else {each.id: _agents(each) for each in loaded.blueprints}
    named = any(":" in (name or "") for found in agents_of.values() for _, name, _ in found)
    in_usd = [each for each in loaded.blueprints if any(_budgets(each))]
    of_tags = [tag for tag, budget in loaded.settings.budgets.tags_per_day.items() if budget.usd is not None]
    if not (named or in_usd or of_tags):  # nothing is imported for a deployment without any
        return loaded
    models = _Models(loaded)
    found: list[Diagnostic] = []
    for blueprint in loaded.blueprints:
        agents = agents_of.get(blueprint.id, [])
        for node, name, place in agents:
            if name is not None and (wrong := models.problem_of(name)):
                path = ("nodes", node.id, "params", "model", *place)
                found.append(_warning(blueprint, path, f"{wrong}: the agent would fail"))
        for path, node_id in _budgets(blueprint):
            asked = [name for node, name, _ in agents if node_id in (None, node.id)]
            if not asked and node_id is not None and _is_agent(blueprint, node_id):
                continue
            unknown = dict.fromkeys(filter(None, map(models.without_price, asked or [None])))
            found += [_warning(blueprint, path, message) for message in unknown]
    for tag in of_tags:
        if message := models.without_price(None):
            path = ("budgets", "tagsPerDay", tag, "usd")
            origin = loaded.values.origin_of(path)
            position = origin.position if origin is not None else None
            found.append(Diagnostic("warning", position, written_path(path), message))
    models.close()
    known = set(loaded.diagnostics)
    return replace(loaded, diagnostics=[*loaded.diagnostics, *(each for each in found if each not in known)])


def _agents(blueprint: Blueprint) -> list[tuple[Node, str | None, Path]]:
    """The agents of a blueprint, each with a model that it names and where in its list that stands."""
    found: list[tuple[Node, str | None, Path]] = []
    for node in blueprint.nodes:
        if node.uses == AGENT:
            params = AgentParams.model_validate(dict(node.params))
            several = isinstance(params.model, tuple)
            found += [(node, name, (index,) if several else ()) for index, name in enumerate(params.models)]
    return found


def _is_agent(blueprint: Blueprint, node_id: str) -> bool:
    return any(node.id == node_id and node.uses == AGENT for node in blueprint.nodes)


def _budgets(blueprint: Blueprint) -> Iterator[tuple[Path, str | None]]:
    """The budgets in USD of a blueprint, with the node whose they are; None for that of all."""
    if blueprint.budget is not None and blueprint.budget.usd is not None:
        yield ("budget", "usd"), None
    for node in blueprint.nodes:
        if node.config.budget is not None and node.config.budget.usd is not None:
            yield ("nodes", node.id, "config", "budget", "usd"), node.id


def _warning(blueprint: Blueprint, path: Path, message: str) -> Diagnostic:
    return Diagnostic("warning", blueprint.positions.of(path), blueprint.positions.shown(path), message)


class _Models:
    """The deployment's models, and those that agents name as pydantic-ai does."""

    def __init__(self, loaded: LoadResult) -> None:
        from flowcraft_server.llm.models import build_models

        assert loaded.settings is not None
        self._problems: dict[str, str] = {}
        self._named: dict[str, Provider] = {}
        self._settings = loaded.settings.llm
        can_build = has_models_extra() or all(each.type == "scripted" for each in self._settings.providers.values())
        self._models: LanguageModels | None = build_models(self._settings, base=loaded.folder) if can_build else None

    def problem_of(self, name: str) -> str:
        """Why a model that is named as `provider:model` cannot be called from here; empty if it can, or is named otherwise."""
        if ":" not in name or not has_extra():
            return ""
        if name not in self._problems and name not in self._named:
            from flowcraft_server.agents.models import NamedProvider, inferred
            from flowcraft_server.llm.errors import LLMSettingsError

            try:
                self._named[name] = NamedProvider(inferred(name))
            except LLMSettingsError as error:
                self._problems[name] = str(error).partition(". ")[0]  # pydantic-ai adds advice for code
        return self._problems.get(name, "")

    def without_price(self, name: str | None) -> str:
        """The message about a model whose price is not known; empty if it is, or if there is no such model."""
        models = self._models
        if models is None or not self._settings.providers:
            return ""
        if name is not None and ":" in name:
            self.problem_of(name)
            provider = self._named.get(name)
        else:
            provider = models.default if name is None else models.get(name) if name in models.names else None
        if provider is None or models.has_price(provider, provider.model):
            return ""
        more = "" if models.has_public_prices else _INSTALL
        return f"the price of the model '{provider.model}' is not known, and its calls would fail: set llm.prices{more}"

    def close(self) -> None:
        """Close what was made."""
        if self._models is not None:
            self._models.close()
