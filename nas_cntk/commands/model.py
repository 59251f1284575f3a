"""`export` and `predict`: a model to keep."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_cntk.commands.options import Db, SkipBad, StudyName
from nas_cntk.commands.output import console_of, print_next
from nas_cntk.report.text import DEFAULT_DB


def export(
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="Number of a finished trial.")],
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder to write; a new or an empty one.")],
    kernel: Annotated[bool, typer.Option("--kernel", help="The kernel regression as the model; no network.")] = False,
    train_images: Annotated[
        int | None, typer.Option(min=1, help="With --kernel: fit at most so many training images; all if not given.")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="The network as ONNX too, checked against torch.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model that an earlier export left.")] = False,
    study: StudyName = None,
    backend: Annotated[str | None, typer.Option(help="With --kernel: the kernel backend, as for search.")] = None,
    data: Annotated[str | None, typer.Option(help="Where the study's data are now, if they moved.")] = None,
    db: Db = DEFAULT_DB,
) -> None:
    """Write a trial's model into a folder.

    That is its network, as torch code that needs nothing of nas-cntk, with the weights that validate trained; or,
    with --kernel, its kernel regression on the training images. A README.md says how to use it.
    """
    from nas_cntk.export.screen import ConsoleScreen
    from nas_cntk.export.trial import Request, export_trial
    from nas_cntk.report import text

    request = Request(db, study, trial, to, kernel, onnx, force, train_images, backend, data)
    console = console_of()
    screen = ConsoleScreen(console)
    exported = export_trial(request, screen)
    screen.say(f"wrote {exported.folder}: {', '.join(exported.files)}")
    if exported.usable:
        print_next(console, text.command("predict", exported.folder, "--data", exported.to_predict))
    else:
        print_next(console, text.command("validate", str(trial), db=db, study=exported.study))


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL_DIR", help="Folder that export wrote.")],
    data: Annotated[str, typer.Option(help="Images, as search takes them, or an image file; labels may be missing.")],
    output: Annotated[
        str | None, typer.Option(metavar="FILE.csv", help="File to write; standard output if not given.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Of a kernel model: the kernel backend, as for search.")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Predict the classes of images with an exported model.

    The CSV has the image's name or number, the class, by how much its score exceeds the next best, and every score.
    Of data with a test set of their own, its images are predicted. A folder may simply hold images.
    """
    from nas_cntk.export.predict import check_output, write_csv, write_stdout
    from nas_cntk.export.predict import predict as predict_images
    from nas_cntk.export.screen import ConsoleScreen

    if output is not None:
        check_output(output)
    screen = ConsoleScreen(console_of(stderr=True))
    predictions = predict_images(model, data, screen, backend=backend, skip_bad=skip_bad)
    if output is not None:
        write_csv(output, predictions)
        screen.say(f"wrote {output}")
        return
    write_stdout(predictions)
