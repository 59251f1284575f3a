"""Exporting a trial of a study: its network, or its kernel regression, as a folder to take home."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas_cntk.errors import RecordsError, StudyError, UsageError
from nas_cntk.export import card, kernel
from nas_cntk.export.folder import check_target, write_folder
from nas_cntk.export.manifest import (
    ARCHITECTURE,
    CARD,
    FILE,
    KERNEL,
    ONNX,
    SOURCE,
    WEIGHTS,
    Manifest,
    Network,
    Regression,
    Resize,
)
from nas_cntk.export.read_image import WHITE, like_image_files
from nas_cntk.export.recipe import recipe_of_kernel, recipe_of_training
from nas_cntk.export.screen import Screen
from nas_cntk.report import text
from nas_cntk.report.describe import summary

if TYPE_CHECKING:
    from nas_cntk.architecture import Architecture
    from nas_cntk.data import Dataset
    from nas_cntk.records.studies import Study
    from nas_cntk.records.validations import Validation
    from nas_cntk.report.board import Board
    from nas_cntk.report.rows import Row

UNTRAINED_WIDTH = 64
CHECKED_ON = 64  # training images on which code and ONNX are compared with the network


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be exported, and where to."""

    db: str
    study: str | None
    trial: int
    to: str
    kernel: bool = False
    onnx: bool = False
    force: bool = False
    train_images: int | None = None
    backend: str | None = None
    data: str | None = None  # where the study's data are now

    def __post_init__(self) -> None:
        if self.kernel and self.onnx:
            raise UsageError("--onnx is for networks, --kernel is none; leave out one of the two")
        if not self.kernel and self.train_images is not None:
            raise UsageError("--train-images caps what --kernel fits; leave it out, or add --kernel")
        if not self.kernel and self.backend is not None:
            raise UsageError("--backend computes what --kernel fits; leave it out, or add --kernel")


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder that was written."""

    study: str
    folder: str
    to_predict: str  # data to predict next
    files: tuple[str, ...]
    usable: bool  # by `predict`; a network without weights is not


@dataclass(frozen=True, slots=True)
class _Subject:
    """The trial, and everything about it that both kinds of model need."""

    request: Request
    board: Board
    row: Row
    architecture: Architecture
    validations: tuple[Validation, ...]
    dataset: Dataset  # not standardised
    data: str

    @property
    def study(self) -> Study:
        return self.board.study

    @property
    def resize(self) -> Resize:
        if self.study.config["image_size"] is not None:
            return "shrink"
        # Photographs come in any size, and a folder is where people have them.
        return "any" if self.data.startswith("folder:") else "never"

    @property
    def pixels(self) -> str:
        if self.data == "digits":
            return "pixel values 0 to 16 divided by 16"
        if self.data.startswith("folder:"):
            return "8-bit pixel values divided by 255, 16-bit ones by 65535"
        if self.dataset.divisor == WHITE:
            return "8-bit pixel values divided by 255"
        return "pixel values as the data hold them"

    @property
    def photos(self) -> Resize | None:
        """What becomes of image files of another size; None where they hold other pixel values than the data."""
        return self.resize if like_image_files(self.dataset) else None

    def manifest(self, model: Network | Regression) -> Manifest:
        from nas_cntk import __version__
        from nas_cntk.validate.artifacts import preprocessing

        how = preprocessing(self.dataset)
        return Manifest(
            classes=self.dataset.classes,
            image_shape=self.dataset.image_shape,
            resize=self.resize,
            mean=how.mean,
            deviation=how.deviation,
            model=model,
            origin={
                "study": self.study.name,
                "trial": self.row.trial,
                "key": self.architecture.key,
                "data": _named(self.data),
                "data_fingerprint": self.dataset.fingerprint,
                "nas_cntk": __version__,
            },
        )

    def scores(self) -> list[card.Measured]:
        found = []
        if self.row.proxy_accuracy is not None:
            what = f"proxy: kernel regression on {self.row.subset:,} training images"
            found.append(
                card.Measured(what, self.row.proxy_accuracy, self.row.proxy_stderr, self.row.holdout, "held-out images")
            )
        for one in self.validations:
            what = "kernel regression" if one.kind == "kernel" else f"network, recipe {one.recipe}"
            what += f", {one.train_images:,} training images"
            if "split_images" in one.details:
                what += f", {one.details['split_images']:,} of them to choose by"
            found.append(card.Measured(what, one.accuracy, one.stderr, one.test_images, "test images"))
        return found


def export_trial(request: Request, screen: Screen) -> Exported:
    """Write the model of a trial into a folder.

    Raises:
        ModelError: if the folder holds something else, or cannot be written.
        StudyError, RecordsError, DataError: if trial or data are not there, or have changed.
        NasCntkError: whatever else keeps the model from being built.
    """
    folder = Path(request.to).expanduser()
    check_target(folder, request.force)
    if request.onnx:
        from nas_cntk.export.onnx import check_installed

        check_installed()
    subject = _subject(request)
    shown = summary(subject.architecture)
    screen.say(f"trial {subject.row.trial} of study {subject.study.name}: {shown}")
    if request.kernel:
        manifest, files = _kernel(subject, screen)
    else:
        manifest, files = _network(subject, screen)
    write_folder(folder, files, request.force)
    usable = not isinstance(manifest.model, Network) or manifest.model.recipe is not None
    return Exported(subject.study.name, request.to, _to_predict(subject.dataset), tuple(files), usable)


def _subject(request: Request) -> _Subject:
    from nas_cntk.records import studies, validations
    from nas_cntk.records.migrations import open_records
    from nas_cntk.report.board import load_board
    from nas_cntk.validate.images import study_dataset

    board = load_board(request.db, request.study)
    row = board.row(request.trial)
    architecture = board.architecture(row.key)
    if architecture is None:
        raise StudyError(f"trial {row.trial} has no architecture to export ({row.reason}); choose another one")
    records = open_records(request.db, write=False)
    try:
        study = studies.find_study(records, board.study.name)
        found = validations.validations(records, study.study_id)
    finally:
        records.close()
    dataset = study_dataset(study, request.data)
    mine = tuple(one for one in found if one.key == row.key)
    return _Subject(request, board, row, architecture, mine, dataset, dataset.spec)


def _named(spec: str) -> str:
    """Return a data spec without its folder: where data lay on this machine is nobody else's business."""
    kind, colon, place = spec.partition(":")
    return f"{kind}:{Path(place).name}" if colon else kind


def _to_predict(dataset: Dataset) -> str:
    """Return the data where they have test images of their own; of others the form, for new ones to be named."""
    kind = dataset.spec.partition(":")[0]
    if dataset.test_given:
        return dataset.spec
    return f"{kind}:{'NEW.npz' if kind == 'npz' else 'NEW_IMAGES'}"


def _network(subject: _Subject, screen: Screen) -> tuple[Manifest, dict[str, bytes]]:
    from nas_cntk.export import cnn
    from nas_cntk.export.source import model_source
    from nas_cntk.validate.artifacts import load_weights, weights_path

    study, row, dataset = subject.study, subject.row, subject.dataset
    path = weights_path(subject.request.db, study.name, subject.architecture.key, "standard")
    diverged = any(one.recipe == "standard" and one.accuracy is None for one in subject.validations)
    trained = path.exists() and not diverged
    weights: dict[str, Any] = {}
    about = Network(UNTRAINED_WIDTH, True, None)
    if trained:
        tensors, kept = load_weights(path)
        if _kept(kept, "classes", list, path) != list(dataset.classes):
            raise RecordsError(f"the weights {path} are of other classes; validate the trial again with --force")
        weights = {name: tensor.numpy() for name, tensor in tensors.items()}
        about = Network(_kept(kept, "width", int, path), _kept(kept, "batch_norm", bool, path), "standard")
    network = cnn.build_network(subject.architecture, dataset.image_shape, dataset.num_classes, about)
    if trained:
        cnn.load_state(network, weights, path)
    manifest = subject.manifest(about)
    recipe = _recipe(subject, path, trained)
    for line in recipe[:1]:
        screen.say(line)
    source = model_source(
        subject.architecture,
        dataset.image_shape,
        dataset.classes,
        width=about.width,
        batch_norm=about.batch_norm,
        mean=manifest.mean,
        deviation=manifest.deviation,
        pixels=subject.pixels,
        title=f"{summary(subject.architecture)}: trial {row.trial} of study {study.name}, found by nas-cntk.",
        about=recipe[0],
        trained=trained,
        photos=subject.photos,
    )
    examples = manifest.standardised(dataset.x_train[:CHECKED_ON])
    cnn.check_source(source, network, examples)
    files = {SOURCE: source.encode()}
    if trained:
        files[WEIGHTS] = cnn.pack(network)
    if subject.request.onnx:
        from nas_cntk.export.onnx import onnx_model

        files[ONNX] = onnx_model(network, examples)
        screen.say(f"{ONNX} agrees with torch on {len(examples)} training images")
    return manifest, _with_papers(subject, manifest, files, recipe)


def _kept(metadata: dict[str, Any], name: str, kind: type, path: Path) -> Any:
    value = metadata.get(name)
    if not isinstance(value, kind):
        raise RecordsError(f"the weights {path} do not say their {name}; validate the trial again with --force")
    return value


def _recipe(subject: _Subject, path: Path, trained: bool) -> list[str]:
    """Return sentences on how the weights came about, the first one for the screen too."""
    by = {one.recipe: one for one in subject.validations if one.kind == "cnn"}
    one = by.get("standard")
    if not trained:
        # What is recorded is not trained again by itself.
        again = "" if one is None else " --only cnn --force"
        if one is not None and one.accuracy is None:
            why = "training by recipe standard diverged"
        elif one is not None:
            why = f"those of recipe standard ({path.name}) are no longer beside the database"
        elif "paper" in by:
            why = "recipe paper trains another parameterisation, which is not exported"
        else:
            why = "the trial is not validated yet"
        return [
            f"The weights are random: {why}. `nas-cntk validate {subject.row.trial}{again}` trains a network to"
            " export.",
            f"Standard parameterisation, He initialisation, width {UNTRAINED_WIDTH}, a batch norm after every conv.",
        ]
    if one is None or one.accuracy is None or not _same_file(one, path):
        # A validation renewed and killed between weights and record.
        return ["The weights were trained by recipe standard; no score of theirs is recorded."]
    return recipe_of_training(one)


def _same_file(one: Validation, path: Path) -> bool:
    import hashlib

    kept = one.details.get("weights")
    return not isinstance(kept, dict) or kept.get("sha256") == hashlib.sha256(path.read_bytes()).hexdigest()


def _kernel(subject: _Subject, screen: Screen) -> tuple[Manifest, dict[str, bytes]]:
    from nas_cntk.kernels import cost
    from nas_cntk.kernels.exact import resolve_backend
    from nas_cntk.regression import memory_of_fit
    from nas_cntk.validate.artifacts import preprocessing
    from nas_cntk.validate.images import validation_images

    study, dataset, request = subject.study, subject.dataset, subject.request
    identity: Any = study.identity
    kind: Literal["ntk", "nngp"] = "nngp" if str(identity["score"][0]).startswith("nngp_") else "ntk"
    images = validation_images(dataset, preprocessing(dataset), identity["seed"])
    n = min(len(dataset.x_train), request.train_images or len(dataset.x_train))
    x, y = images.train(n)
    manifest = subject.manifest(Regression(kind, identity["dtype"], n, 0.0, 0.0, 1.0))
    backend = resolve_backend(request.backend or str(study.config["backend"]))
    work = cost.entry_layers(subject.architecture, dataset.image_shape, n * (n + 1) // 2)
    rate = cost.measure_rate(backend)
    screen.say(
        f"kernel {kind} of {n:,} of {len(dataset.x_train):,} training images, backend {backend}: predicted"
        f" {text.duration(work / rate)} (at {rate:.2g} entry-layers/s), and up to {-(-memory_of_fit(n) // 2**20):,} MiB"
    )
    model = kernel.fit_kernel(
        subject.architecture,
        manifest.standardised(x),
        y,
        dataset.num_classes,
        kernel=kind,
        dtype=identity["dtype"],
        ridge=identity["ridge"],
        backend=backend,
        progress=screen.progress(work),
    )
    manifest = subject.manifest(kernel.describe(model))
    fitted = model.fitted
    scores = (
        f"leave-one-out accuracy {text.score('accuracy', fitted.loo_accuracy)}, " if fitted.loo_accuracy >= 0 else ""
    )
    screen.say(f"fitted: {scores}ridge {fitted.ridge:g}, jitter {fitted.jitter:g}")
    assert isinstance(manifest.model, Regression)
    recipe = recipe_of_kernel(manifest.model)
    extra = []
    if fitted.loo_accuracy >= 0:
        from nas_cntk.regression import standard_error

        error = standard_error(fitted.loo_accuracy, n)
        extra = [card.Measured("this model, leave-one-out", fitted.loo_accuracy, error, n, "training images")]
    return manifest, _with_papers(subject, manifest, {KERNEL: kernel.pack(model)}, recipe, extra)


def _with_papers(
    subject: _Subject,
    manifest: Manifest,
    files: dict[str, bytes],
    recipe: list[str],
    extra: list[card.Measured] | None = None,
) -> dict[str, bytes]:
    """Return the files with architecture, model.json and README.md beside them."""
    files = {**files, ARCHITECTURE: b"", FILE: b"", CARD: b""}
    scores = [*(extra or []), *subject.scores()]
    page = card.card(manifest, subject.architecture, list(files), scores, recipe, subject.pixels, subject.photos)
    return {
        **files,
        ARCHITECTURE: (subject.architecture.to_json() + "\n").encode(),
        FILE: manifest.to_json().encode(),
        CARD: page.encode(errors="replace"),
    }
