"""`data`: what a search would make of some data."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_cntk.commands import completion
from nas_cntk.commands.options import Holdout, ImageSize, Json, Seed, Subset
from nas_cntk.commands.output import SETTINGS, console_of, print_json, print_next

app = typer.Typer(
    help="Look data over before a search.", epilog="Example: nas-cntk data inspect folder:photos", **SETTINGS
)


@app.command("inspect", epilog="Example: nas-cntk data inspect folder:photos --contact-sheet sheet.png")
def data_inspect(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="Data, as --data of a search takes them.")],
    image_size: ImageSize = None,
    subset: Subset = 2000,
    holdout: Holdout = 2000,
    seed: Seed = 0,
    space: Annotated[
        str, typer.Option(autocompletion=completion.spaces, help="Search space whose cost is predicted.")
    ] = "plain",
    backend: Annotated[str, typer.Option(help="Kernel backend that it is predicted for.")] = "auto",
    sheet: Annotated[
        str | None, typer.Option("--contact-sheet", metavar="FILE.png", help="Write images of every class as a PNG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a search would make of some data.

    Images of every class, sizes, files that cannot be read, images that are there twice, the split, and what a search
    would cost at several image sizes. Nothing is recorded.
    """
    from nas_cntk.data.contact_sheet import require_png, write_contact_sheet
    from nas_cntk.report import inspection_view, text
    from nas_cntk.search.inspection import inspect
    from nas_cntk.search.settings import Problem

    target = None if sheet is None else require_png(sheet)
    found = inspect(Problem(spec, image_size, space, subset, holdout, seed), backend)
    if target is not None:
        write_contact_sheet(found.facts.dataset, target)
    if as_json:
        print_json(found.to_dict())
        return
    console = console_of()
    inspection_view.show(console, found)
    if sheet is not None:
        console.print(f"wrote {sheet}", markup=False, soft_wrap=True)
    if found.split is not None:
        given = (
            ("--space", space, "plain"),
            ("--subset", subset, 2000),
            ("--holdout", holdout, 2000),
            ("--seed", seed, 0),
        )
        options = [word for name, value, default in given if value != default for word in (name, str(value))]
        print_next(console, text.command("search", "--data", spec, *found.facts.options, *options))
