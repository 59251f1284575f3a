"""A validation from the options to the last result: choose, predict, then train and solve one after the other.

Everything finished is in the records at once; what is under way lies beside the database and is continued.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from nas_cntk import data
from nas_cntk.cluster import engine_of
from nas_cntk.errors import DataError, UsageError
from nas_cntk.files import write_file
from nas_cntk.kernels.exact import resolve_backend
from nas_cntk.records import studies, trials, validations
from nas_cntk.records.migrations import open_records
from nas_cntk.records.validations import Validation
from nas_cntk.search.interrupt import Interrupt
from nas_cntk.validate import artifacts, full_kernel
from nas_cntk.validate.devices import Devices, resolve_devices
from nas_cntk.validate.forecast import Sizes, Unit, fit, unit
from nas_cntk.validate.images import study_dataset, validation_images
from nas_cntk.validate.job import Bench, Job, Progress, settings_hash
from nas_cntk.validate.selection import Candidate, select
from nas_cntk.validate.wishes import Wishes

PLAN = "plan.json"  # how many images the unfinished validation gives: timings differ from run to run


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to be done, for the screen."""

    bench: Bench
    candidates: tuple[Candidate, ...]
    known: tuple[Validation, ...]  # recorded before, not computed again
    units: tuple[Unit, ...]
    sizes: Sizes
    notes: tuple[str, ...]

    def predicted(self, one: Unit) -> float:
        """Return the seconds that a unit is predicted to take."""
        return one.seconds(*self.sizes.of(one, len(self.bench.images.dataset.y_test)))

    def total(self, kind: str | None = None) -> float:
        """Return the seconds that all units, or those of a kind, are predicted to take."""
        return sum(self.predicted(one) for one in self.units if kind in (None, one.kind))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a validation ended."""

    study: str
    candidates: tuple[Candidate, ...]
    interrupted: bool


class Screen(Protocol):
    """Who shows a validation."""

    def measures(self, done: int, total: int) -> None:
        """Timings are taken, `done` of `total` so far."""

    def begins(self, plan: Plan) -> None:
        """The first unit is about to begin."""

    def unit_begins(self, one: Unit, predicted: float) -> None:
        """A unit begins."""

    def progress(self, fraction: float) -> None:
        """So much of the unit is done."""

    def unit_ends(self, one: Unit, found: Validation) -> None:
        """A unit is recorded."""


def validate(db: str, name: str | None, wishes: Wishes, screen: Screen, *, moved: str | None = None) -> Ended:
    """Validate architectures of a study, the newest one if `name` is None; `moved` says where its data are now.

    Raises:
        NasCntkError: whatever is wrong, in one line; what is recorded stays.
    """
    open_records(db, write=False).close()  # a missing database is an error here, and not made
    # Kernels alone need no torch, which is what looks for devices.
    trains = "cnn" in wishes.kinds
    devices = resolve_devices(wishes.devices) if trains or wishes.devices != "auto" else Devices()
    records = open_records(db, write=True)
    try:
        study = studies.find_study(records, name)
        candidates, notes = select(study, trials.finished_trials(records, study.study_id), wishes)
        dataset = study_dataset(study, moved)
        if not len(dataset.y_test):
            raise DataError(f"{dataset.spec!r} has no test images; nothing can be validated")
        prepared = artifacts.preprocessing(dataset)
        seed = study.identity.get("seed", 0)
        assert isinstance(seed, int)
        images = validation_images(data.standardise(dataset), prepared, seed)
        backend = _backend(wishes, wishes.backend or str(study.config.get("backend", "auto")))
        with (
            engine_of(wishes.cluster) as engine,
            artifacts.working_on(db, study.name) as folder,
            Interrupt() as interrupt,
        ):
            bench = Bench(records, study, db, images, devices, backend, wishes, engine)
            try:
                _run(bench, candidates, notes, folder, screen, interrupt)
            except KeyboardInterrupt:
                return Ended(study.name, tuple(candidates), True)
        return Ended(study.name, tuple(candidates), False)
    finally:
        records.close()


def _backend(wishes: Wishes, name: str) -> str:
    if wishes.devices.strip() == "cpu":
        if name == "cuda":
            raise UsageError("--devices cpu contradicts the kernel backend cuda; add --backend cpu, or leave it out")
        name = "cpu" if name == "auto" else name
    return resolve_backend(name)


def _run(
    bench: Bench,
    candidates: Sequence[Candidate],
    notes: Sequence[str],
    folder: Path,
    screen: Screen,
    interrupt: Interrupt,
) -> None:
    bench.images.train(_most(bench))  # too few for the classes is an error before anything is timed
    known, missing = _sorted_out(bench, candidates)
    for candidate, kind in missing if bench.wishes.force else ():
        _forget(bench, candidate, kind)
    units = []
    for done, (candidate, kind) in enumerate(missing):
        screen.measures(done, len(missing))
        if interrupt.requested:
            raise KeyboardInterrupt
        units.append(unit(bench, candidate, kind))
    asked = _asked(bench, candidates)
    sizes = _stored_sizes(folder, asked) or fit(bench, units, _most(bench))
    _store_sizes(folder, asked, sizes)
    plan = Plan(bench, tuple(candidates), tuple(known), tuple(units), sizes, (*notes, *_differences(bench, known)))
    screen.begins(plan)
    for one in units:
        predicted = plan.predicted(one)
        screen.unit_begins(one, predicted)
        found = _computed(bench, one, sizes, predicted, screen.progress, interrupt)
        validations.record_validation(bench.records, found)
        if one.kind == "kernel" and not bench.wishes.keep:
            full_kernel.drop_tiles(bench, one.candidate.key)
        screen.unit_ends(one, found)
    (folder / PLAN).unlink(missing_ok=True)


def _computed(
    bench: Bench, one: Unit, sizes: Sizes, predicted: float, progress: Progress, interrupt: Interrupt
) -> Validation:
    n, tests = sizes.of(one, len(bench.images.dataset.y_test))
    asked = _most(bench)
    notes: dict[str, object] = {"predicted_seconds": predicted, "lowered_from": asked if n < asked else None}
    job = Job(bench, one.candidate, n, notes, progress, lambda: interrupt.requested)
    if one.kind == "kernel":
        return full_kernel.run(job, tests)
    from nas_cntk.validate import paper_recipe, standard_recipe

    return standard_recipe.run(job) if bench.wishes.recipe == "standard" else paper_recipe.run(job)


def _most(bench: Bench) -> int:
    there = len(bench.images.dataset.y_train)
    return min(bench.wishes.train_images or there, there)


def _sorted_out(bench: Bench, candidates: Sequence[Candidate]) -> tuple[list[Validation], list[tuple[Candidate, str]]]:
    """Return what is recorded already, and what is to be computed: per candidate the CNN, then the kernel."""
    known: list[Validation] = []
    missing: list[tuple[Candidate, str]] = []
    for candidate in candidates:
        for kind in bench.wishes.kinds:
            found = validations.find_validation(
                bench.records, bench.study.study_id, candidate.key, kind, _recipe(bench, kind)
            )
            if found is None or bench.wishes.force or _weights_are_gone(bench, found):
                missing.append((candidate, kind))
            else:
                known.append(found)
    return known, missing


def _weights_are_gone(bench: Bench, found: Validation) -> bool:
    # Only of the standard recipe: that is what people export, and the paper's grid is twelve trainings.
    if found.recipe != "standard" or found.accuracy is None:
        return False
    return not artifacts.weights_path(bench.db, bench.study.name, found.key, found.recipe).exists()


def _recipe(bench: Bench, kind: str) -> str | None:
    return bench.wishes.recipe if kind == "cnn" else None


def _forget(bench: Bench, candidate: Candidate, kind: str) -> None:
    # The recorded result stays until the new one takes its place.
    if kind == "kernel":
        full_kernel.drop_tiles(bench, candidate.key)
        return
    recipe = bench.wishes.recipe
    validations.forget_points(bench.records, bench.study.study_id, candidate.key, recipe)
    artifacts.checkpoint_path(bench.db, bench.study.name, candidate.key, recipe).unlink(missing_ok=True)


def _differences(bench: Bench, known: Sequence[Validation]) -> list[str]:
    """Say which recorded results were made with other options than those given now."""
    wishes = bench.wishes
    for one in known:
        other = []
        asked = (("--epochs", wishes.epochs, "epochs"), ("--width", wishes.width, "width"))
        for option, value, field in asked if one.kind == "cnn" else ():
            stored = one.setting(field)
            if value is not None and value != stored:
                other.append(f"{option} {stored}")
        for option, given, field in (("--flips", wishes.flips, "flips"), ("--crops", wishes.crops, "crops")):
            stored = one.setting(field)
            if stored is not None and given != stored:
                other.append(option if stored else f"no {option}")
        if wishes.train_images is not None and one.train_images != min(
            wishes.train_images, len(bench.images.dataset.y_train)
        ):
            other.append(f"{one.train_images} training images")
        if other:
            return [
                f"recorded results stay, trial {one.number}'s for example with {', '.join(other)}; --force renews them"
            ]
    return []


def _asked(bench: Bench, candidates: Sequence[Candidate]) -> str:
    # What the sizes were fitted to: the same command line on the same study goes on with them.
    wishes = asdict(replace(bench.wishes, force=False, keep=False, devices="", backend=None, cluster=None))
    return settings_hash({"wishes": wishes, "candidates": [candidate.key for candidate in candidates]})


def _stored_sizes(folder: Path, asked: str) -> Sizes | None:
    try:
        document = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        if document["asked"] != asked:
            return None
        sizes = document["sizes"]
        return Sizes(int(sizes["cnn"]), int(sizes["kernel"]), int(sizes["kernel_test"]), tuple(sizes["notes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _store_sizes(folder: Path, asked: str, sizes: Sizes) -> None:
    document: Mapping[str, object] = {"asked": asked, "sizes": asdict(sizes)}
    write_file(folder / PLAN, lambda file: file.write(json.dumps(document).encode()))
