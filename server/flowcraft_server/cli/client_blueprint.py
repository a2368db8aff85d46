"""`flowcraft blueprint`: look at blueprints: files, those of the deployment, and what is published."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .client_errors import EXIT_USAGE
from .client_input import nearest_config
from .counts import counted
from .diagnostic_formats import FORMATS
from .shared_options import as_json_option, given, json_before
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client

    from .blueprint_source import BlueprintSource


@click.group()
@json_before
def blueprint() -> None:
    """Look at blueprints.

    A BLUEPRINT is a file, or the id of one of the deployment's files, else of one that is published; ID@published is the
    published one in any case, ID@HASH another version of it.
    """


@blueprint.command("list")
@click.option("--published", is_flag=True, help="List what is published, not the files of the deployment.")
@as_json_option
@click.pass_context
def list_(ctx: click.Context, published: bool, as_json: bool) -> None:
    """List the blueprints of the deployment's files, each with the hash that its plan has or will have.

    Without a deployment's file, those that are published. What is wrong with files that were not reloaded is printed, too.
    """
    from .blueprint_output import print_blueprints
    from .client_output import print_mistakes
    from .diagnostic_output import print_diagnostics

    source = _source(ctx)
    if published or source.deployment is None:
        rows = [
            {
                "id": info.id,
                "version": info.version,
                "nodes": info.node_count,
                "file": None,
                "description": info.description,
            }
            for info in source.client.blueprints()
        ]
    else:
        rows = [
            {
                "id": found.blueprint.id,
                "version": found.version or None,
                "nodes": len(found.blueprint.nodes),
                "file": found.origin,
                "description": found.blueprint.description,
            }
            for found in source.of_deployment()
        ]
    if as_json:
        write_json(rows)
    else:
        print_blueprints(rows)
    if published or source.deployment is None:
        print_mistakes(source.client.admin.servers())
    if not published and source.deployment is not None and source.deployment.errors:
        print_diagnostics(source.deployment.errors, "text")
        raise click.exceptions.Exit(EXIT_USAGE)


@blueprint.command()
@click.argument("reference", metavar="BLUEPRINT")
@as_json_option
@click.option("--mermaid", is_flag=True, help="Print a Mermaid diagram.")
@click.pass_context
def show(ctx: click.Context, reference: str, as_json: bool, mermaid: bool) -> None:
    """Show BLUEPRINT: its shape, and what the linter finds in it.

    With --json its plain form, all short forms and defaults worked in.
    """
    from flowcraft_server.blueprints.mermaid import to_mermaid

    from .blueprint_output import print_analysis

    if as_json and mermaid:
        raise click.UsageError("--json and --mermaid exclude each other")
    found = _source(ctx).find(reference)
    if as_json:
        write_json(found.blueprint.to_plain())
    elif mermaid:
        write(to_mermaid(found.blueprint), end=False)
    else:
        print_analysis(found)


@blueprint.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@as_json_option
@click.pass_context
def check(ctx: click.Context, files: tuple[Path, ...], format_: str, strict: bool, as_json: bool) -> None:
    """Check blueprint FILES, or the whole deployment. Exit code 2 if there is an error.

    Handlers and subflows are looked up in the deployment, if there is one.
    """
    from .blueprint_check import check_files
    from .diagnostic_output import print_diagnostics, print_suggestions

    format_ = "json" if as_json else format_
    config = _config(ctx)
    if not files and config is None:
        raise click.UsageError(
            "name files, or a deployment with --config: there is no flowcraft.yaml from here upwards"
        )
    diagnostics, checked = check_files(files, config, given(ctx, "profile"))
    print_diagnostics(diagnostics, format_, config)
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    if format_ == "text" and not errors:
        print_suggestions(checked)
    warnings = len(diagnostics) - errors
    if format_ not in ("json", "sarif"):
        also = f", {counted(warnings, 'warning')}" if warnings else ""
        wrong = bool(errors or (strict and warnings))
        write(f"{counted(len(checked), 'blueprint')}: {counted(errors, 'error')}{also}", err=wrong)
    if errors or (strict and warnings):
        raise click.exceptions.Exit(EXIT_USAGE)


@blueprint.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@as_json_option
@click.pass_context
def diff(ctx: click.Context, before: str, after: str, as_json: bool) -> None:
    """Show what differs between the blueprints A and B: nodes, edges and settings, added, removed and changed."""
    from flowcraft_server.blueprints.difference import difference

    from .blueprint_output import print_difference

    source = _source(ctx)
    old, new = source.find(before), source.find(after)
    found = difference(old.blueprint, new.blueprint)
    if as_json:
        sides = {
            name: {"id": side.blueprint.id, "version": side.version or None, "origin": side.origin}
            for name, side in (("from", old), ("to", new))
        }
        write_json({**sides, **found.to_plain()})
    else:
        print_difference(old, new, found)


def _config(ctx: click.Context) -> Path | None:
    """The deployment's file; none if an address of Redis or of the API was given in its place."""
    if given(ctx, "url") is not None or given(ctx, "server") is not None:
        return None
    config: Path | None = given(ctx, "config") or nearest_config()
    return config


def _source(ctx: click.Context) -> "BlueprintSource":
    from .blueprint_source import BlueprintSource

    connect: Callable[[], Client] = ctx.obj
    return BlueprintSource(_config(ctx), connect, given(ctx, "profile"))
