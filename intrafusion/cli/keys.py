"""`intrafusion keys`: the API keys of a server, made and revoked where its records lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from intrafusion.cli import options as o
from intrafusion.cli.exits import EXIT_CODES, reported
from intrafusion.errors import ErrorCode, IntraFusionError, how_to_install

if TYPE_CHECKING:
    from service.store.database import Database

app = typer.Typer(
    name="keys",
    help="Make, list and revoke the API keys of a server.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Home = Annotated[
    Path,
    typer.Option(
        help="The server's folder of state; DATABASE_URL goes before it.", file_okay=False
    ),
]


@app.command(epilog=EXIT_CODES)
@reported
def create(
    name: Annotated[str, typer.Argument(help="What it is for, for people.")],
    tenant: Annotated[
        str, typer.Option(help="Whose jobs and uploads it opens, and no others.")
    ] = "default",
    home: Home = Path(".intrafusion"),
    as_json: o.AsJson = False,
) -> None:
    """Make a key and print it; it is shown this once.

    From the first key on, every request to the server needs one.

    Example:

        export INTRAFUSION_API_KEY=$(intrafusion keys create ci --home ./state)
    """
    from service.keys import create_api_key

    with _records(home) as database:
        key, known = create_api_key(database=database, name=name, tenant=tenant)
    if as_json:
        typer.echo(json.dumps({"key": key} | asdict(known), default=str))
        return
    typer.echo(key)
    Console(stderr=True).print(
        f"{known.id} of tenant {known.tenant}: keep the key, it is not shown again", highlight=False
    )


@app.command("list", epilog=EXIT_CODES)
@reported
def list_keys(home: Home = Path(".intrafusion"), as_json: o.AsJson = False) -> None:
    """Show what is known of all keys; never the keys themselves.

    Example:

        intrafusion keys list --home ./state
    """
    from service.keys import list_api_keys

    with _records(home) as database:
        known = list_api_keys(database=database)
    if as_json:
        typer.echo(json.dumps({"data": [asdict(key) for key in known]}, default=str))
        return
    table = Table("key", "name", "tenant", "made", "revoked")
    for key in known:
        revoked = f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
        table.add_row(key.id, key.name, key.tenant, f"{key.created_at:%Y-%m-%d %H:%M}", revoked)
    Console().print(table)


@app.command(epilog=EXIT_CODES)
@reported
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, as `keys list` shows it.")],
    home: Home = Path(".intrafusion"),
) -> None:
    """Let a key open nothing from now on.

    Example:

        intrafusion keys revoke key_… --home ./state
    """
    from service.keys import revoke_api_key

    with _records(home) as database:
        revoke_api_key(database=database, id=key)


@contextmanager
def _records(home: Path) -> Iterator[Database]:
    try:
        from service.keys import open_database
    except ModuleNotFoundError as missing:
        raise IntraFusionError(
            ErrorCode.ENGINE_MISSING,
            f"Keys need {missing.name}, which is not installed.",
            f"Install the server: {how_to_install('service')}.",
        ) from missing
    database = open_database(home)
    try:
        yield database
    finally:
        database.close()
