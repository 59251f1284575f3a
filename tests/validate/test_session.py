"""`nas-cntk validate` from the options to the records, on small images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_cntk import Architecture, data, kernel, regression
from nas_cntk.records import validations
from nas_cntk.records.migrations import open_records
from nas_cntk.validate import full_kernel, session, standard_recipe
from nas_cntk.validate.artifacts import load_weights, study_folder, weights_path
from nas_cntk.validate.finite import finite_network
from nas_cntk.validate.standard import standard_network

Run = Callable[..., Any]
FEW = ("--epochs", "2", "--width", "4", "--db", "nas.db")
KERNEL = ("--only", "kernel", "--db", "nas.db")


def validated(db: Path) -> list[dict[str, Any]]:
    records = open_records(str(db), write=False)
    try:
        return [one.to_dict() for one in validations.validations(records, 1)]
    finally:
        records.close()


def architecture(db: Path, key: str) -> Architecture:
    from nas_cntk.report.board import load_board

    found = load_board(str(db), None).architecture(key)
    assert found is not None
    return found


def test_the_whole_way(run: Run, db: Path) -> None:
    first = run("validate", "--top", "2", *FEW)
    assert first.code == 0, first.err
    assert "predicted: " in first.out and "1/4  trial" in first.out and "4/4  trial" in first.out
    assert "fewer than 8, this proves little" in " ".join(first.out.split())
    assert max(map(len, first.out.splitlines()[:2])) > 10
    rows = validated(db)
    assert [(row["kind"], row["recipe"]) for row in rows] == 2 * [("cnn", "standard"), ("kernel", None)]
    assert all(row["train_images"] == 200 and row["test_images"] == 60 for row in rows)
    assert all(0 <= row["accuracy"] <= 1 and row["seconds"] > 0 for row in rows)
    assert not list(study_folder(str(db), "small").glob("*-kernel")), "tiles were left"
    assert not list(study_folder(str(db), "small").glob("*.checkpoint"))

    again = run("validate", "--top", "2", *FEW)
    assert again.code == 0 and "4 results are recorded already" in again.out
    assert validated(db) == rows

    board = run("leaderboard", "--json", "--db", "nas.db").json()
    assert board[0]["cnn_accuracy"] == rows[0]["accuracy"] and board[0]["cnn_recipe"] == "standard"
    assert board[0]["full_kernel_accuracy"] == rows[1]["accuracy"]
    assert "CNN" in run("leaderboard", "--db", "nas.db").out
    shown = run("show", str(rows[0]["trial"]), "--json", "--db", "nas.db").json()
    assert shown["validations"] == rows[:2]
    assert "CNN, standard" in run("show", str(rows[0]["trial"]), "--db", "nas.db").out


def test_the_recorded_cnn_is_the_saved_one_on_the_test_set(run: Run, db: Path, searched: Path) -> None:
    assert run("validate", "--top", "1", "--only", "cnn", *FEW).code == 0
    row = validated(db)[0]
    weights, metadata = load_weights(weights_path(str(db), "small", row["key"], "standard"))
    net = standard_network(architecture(db, row["key"]), metadata["image_shape"], metadata["num_classes"],
                           metadata["width"], metadata["batch_norm"])  # fmt: skip
    net.load_state_dict(weights)
    raw = data.load(f"npz:{searched}/images.npz")
    prepared = metadata["preprocessing"]
    x = (raw.x_test - np.array(prepared["mean"])) / np.array(prepared["deviation"])
    with torch.no_grad():
        outputs = net.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32)))
    assert (outputs.argmax(1).numpy() == raw.y_test).mean() == pytest.approx(row["accuracy"])


def test_the_recorded_kernel_is_the_regression_on_the_full_training_set(run: Run, db: Path, searched: Path) -> None:
    assert run("validate", "--top", "1", *KERNEL).code == 0
    row = validated(db)[0]
    digits = data.standardise(data.load(f"npz:{searched}/images.npz"))
    arch = architecture(db, row["key"])
    fitted = regression.fit(kernel(arch, digits.x_train), digits.y_train, 2)
    scores = regression.holdout_scores(fitted, kernel(arch, digits.x_test, digits.x_train), digits.y_test)
    assert scores.accuracy == pytest.approx(row["accuracy"])
    assert row["details"]["kernel"] == "ntk" and row["details"]["residual"] < 1e-6


def test_the_papers_grid(run: Run, db: Path) -> None:
    done = run("validate", "--top", "1", "--recipe", "paper", "--only", "cnn", *FEW)
    assert done.code == 0 and "best on test" in done.out
    row = validated(db)[0]
    grid = row["details"]["grid"]
    assert {(p["width"], p["kappa"], p["step"]) for p in grid} == {
        (w, k, s) for w in (2, 4) for k in (1.0, 0.1) for s in (0.5, 1.0, 2.0)
    }
    right = [point for point in grid if not point["diverged"]]
    assert row["details"]["points_diverged"] == 12 - len(right)
    best = max(right, key=lambda point: (point["split_accuracy"], -point["split_loss"]))
    assert row["details"]["chosen"] == best and row["accuracy"] == best["test_accuracy"]
    assert row["details"]["best_on_test"] == max(point["test_accuracy"] for point in right)
    weights, metadata = load_weights(weights_path(str(db), "small", row["key"], "paper"))
    assert metadata["kappa"] == best["kappa"] and metadata["width"] == best["width"]
    net = finite_network(architecture(db, row["key"]), metadata["image_shape"], metadata["num_classes"],
                         metadata["width"], metadata["kappa"])  # fmt: skip
    net.load_state_dict(weights)
    assert "CNN, paper" in run("show", str(row["trial"]), "--db", "nas.db").out


def test_both_recipes_are_kept_and_the_standard_one_is_shown(run: Run, db: Path) -> None:
    for recipe in ("paper", "standard"):
        assert run("validate", "--top", "1", "--only", "cnn", "--recipe", recipe, *FEW).code == 0
    assert [row["recipe"] for row in validated(db)] == ["paper", "standard"]
    assert run("leaderboard", "--json", "--db", "nas.db").json()[0]["cnn_recipe"] == "standard"


def test_force_computes_again_and_a_change_without_it_is_said(run: Run, db: Path) -> None:
    assert run("validate", "--top", "1", "--only", "cnn", *FEW).code == 0
    before = validated(db)[0]
    other = run("validate", "--top", "1", "--only", "cnn", *FEW[2:], "--epochs", "3")
    assert "--epochs 2" in other.out and "--force renews" in " ".join(other.out.split())
    assert validated(db)[0] == before
    assert run("validate", "--top", "1", "--only", "cnn", "--force", *FEW[2:], "--epochs", "3").code == 0
    after = validated(db)
    assert len(after) == 1 and after[0]["details"]["schedule"]["epochs"] == 3


def test_json_says_everything_and_nothing_else(run: Run, db: Path) -> None:
    done = run("validate", "--spread", "4", "--json", *FEW)
    document = done.json()
    assert document["study"] == "small" and len(document["validations"]) == 8
    assert [one["target"] for one in document["health"]] == ["CNN, standard recipe", "full kernel"]
    assert document["health"][0]["architectures"] == 4
    assert "predicted" in done.err


def test_a_divergence_is_recorded_and_the_next_rate_goes_on(
    run: Run, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard_recipe, "RATES", (1e30, 0.03))
    assert run("validate", "--top", "1", "--only", "cnn", *FEW).code == 0
    row = validated(db)[0]
    assert [point["diverged"] for point in row["details"]["tried"]] == [True, False]
    assert row["details"]["learning_rate"] == 0.03 and row["accuracy"] is not None
    monkeypatch.setattr(standard_recipe, "RATES", (1e30, 1e29))
    done = run("validate", "--top", "1", "--only", "cnn", "--force", *FEW)
    assert done.code == 0 and "diverged" in done.out
    row = validated(db)[0]
    assert row["accuracy"] is None and row["details"]["diverged"] is True
    assert run("leaderboard", "--json", "--db", "nas.db").json()[0]["cnn_accuracy"] is None


def test_time_that_is_short_lowers_the_images_and_says_so(run: Run, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Predicted seconds that do not depend on the machine: the images, and for kernels their square.
    def costs(bench: Any, candidate: Any, kind: str) -> session.Unit:
        return session.Unit(candidate, kind, lambda n, m: n / 10 if kind == "cnn" else n * n / 400)

    monkeypatch.setattr(session, "unit", costs)
    done = run("validate", "--top", "1", "--max-seconds", "100", *FEW)
    assert done.code == 0
    words = " ".join(done.out.split())
    assert "note: full kernels get 170 of 200 training images, to end within the time (--max-seconds 100)" in words
    cnn, full = validated(db)
    assert cnn["train_images"] == 200 and cnn["details"]["lowered_from"] is None
    assert full["train_images"] == 170 and full["details"]["lowered_from"] == 200
    dear = run("validate", "--top", "1", "--max-seconds", "1", "--force", *FEW)
    assert dear.code == 1 and "raise --max-seconds" in dear.err and dear.err.count("\n") == 1


def test_an_interrupted_plan_goes_on_with_the_images_it_had(
    run: Run, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = [1.0]

    def costs(bench: Any, candidate: Any, kind: str) -> session.Unit:
        return session.Unit(candidate, kind, lambda n, m: speed[0] * n * n / 400)

    monkeypatch.setattr(session, "unit", costs)
    whole: Callable[..., Any] = full_kernel.run

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(full_kernel, "run", interrupted)
    arguments = ("validate", "--top", "1", *KERNEL, "--max-seconds", "50")
    stopped = run(*arguments)
    assert stopped.code == 130 and "the same command goes on" in stopped.out
    monkeypatch.setattr(full_kernel, "run", whole)
    speed[0] = 3.0  # the machine is busier now
    assert run(*arguments).code == 0
    assert validated(db)[0]["train_images"] == 140
    assert not (study_folder(str(db), "small") / session.PLAN).exists()


def test_keep_leaves_the_tiles(run: Run, db: Path) -> None:
    assert run("validate", "--top", "1", *KERNEL, "--keep").code == 0
    first = validated(db)[0]
    assert len(list(study_folder(str(db), "small").glob("*-kernel/zarr.json"))) == 1
    (study_folder(str(db), "small") / f"{first['key']}-kernel" / "zarr.json").write_text("{")
    assert run("validate", "--top", "1", *KERNEL, "--force").code == 0
    assert validated(db)[0]["accuracy"] == first["accuracy"]


def test_trials_by_number_and_rename_and_delete(run: Run, db: Path) -> None:
    number = run("leaderboard", "--json", "--db", "nas.db").json()[3]["trial"]
    assert run("validate", str(number), "--only", "cnn", *FEW).code == 0
    row = validated(db)[0]
    assert row["trial"] == number
    assert run("studies", "rename", "small", "a/b", "--db", "nas.db").code == 0
    assert weights_path(str(db), "a/b", row["key"], "standard").exists()
    assert not study_folder(str(db), "small").exists()
    assert run("studies", "delete", "a/b", "--yes", "--db", "nas.db").code == 0
    assert validated(db) == [] and not study_folder(str(db), "a/b").exists()


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (("--top", "2", "--spread", "3"), 2, "--top and --spread are two ways to choose trials; use one"),
        (("3", "--top", "2"), 2, "--top and trial numbers are two ways"),
        (("--recipe", "best"), 2, "--recipe must be standard or paper, got 'best'"),
        (("--recipe", "paper", "--flips"), 2, "no augmentation"),
        (("--only", "both"), 2, "--only must be cnn or kernel, got 'both'"),
        (("--only", "kernel", "--epochs", "3", "--flips"), 2, "trains nothing; leave --epochs and --flips out"),
        (("--only", "kernel", "--recipe", "paper", "--width", "3"), 2, "leave --recipe and --width out"),
        (("--only", "cnn", "--keep"), 2, "leave --keep out"),
        (("--devices", "cpu", "--backend", "cuda"), 2, "--devices cpu contradicts the kernel backend cuda"),
        (("--devices", "gpu"), 2, "is no device"),
        (("--devices", "cuda:77"), 1, "device cuda:77 is not there"),
        (("--backend", "fast"), 2, "backend must be one of"),
        (("--train-images", "3"), 2, "3 training images are too few for 2 classes"),
        (("999",), 1, "has no finished trial 999"),
        (("--study", "other"), 1, "no study 'other'"),
        (("--data", "digits"), 1, "the data of study 'small' changed"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, db: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = run("validate", *arguments, "--db", "nas.db")
    assert done.code == code and message in done.err
    assert "Traceback" not in done.err and done.err.count("\n") == 1
    assert validated(db) == []


def test_two_processes_do_not_train_the_same(run: Run, db: Path) -> None:
    from nas_cntk.validate.artifacts import working_on

    with working_on(str(db), "small"):
        done = run("validate", "--top", "1", *FEW)
    assert done.code == 1 and "another process validates study 'small'" in done.err


def test_a_study_being_validated_is_neither_renamed_nor_deleted(run: Run, db: Path) -> None:
    from nas_cntk.validate.artifacts import working_on

    with working_on(str(db), "small"):
        for verb in (("rename", "small", "other"), ("delete", "small", "--yes")):
            done = run("studies", *verb, "--db", "nas.db")
            assert done.code == 1 and done.err.count("\n") == 1
            assert "another process validates study 'small'" in done.err
    assert [one["name"] for one in run("studies", "list", "--json", "--db", "nas.db").json()] == ["small"]


def test_renaming_and_deleting_leave_no_folder_where_nothing_was_validated(run: Run, db: Path) -> None:
    assert run("studies", "rename", "nothing", "other", "--db", "nas.db").code == 1
    assert run("studies", "rename", "small", "small", "--db", "nas.db").code == 1
    assert run("studies", "rename", "small", "other", "--db", "nas.db").code == 0
    assert run("studies", "delete", "other", "--yes", "--db", "nas.db").code == 0
    assert [path.name for path in db.parent.iterdir()] == ["nas.db"]


def test_weights_that_are_gone_are_trained_again(run: Run, db: Path) -> None:
    assert run("validate", "--top", "1", "--only", "cnn", *FEW).code == 0
    before = validated(db)[0]
    path = weights_path(str(db), "small", before["key"], "standard")
    content = path.read_bytes()
    path.unlink()
    assert run("validate", "--top", "1", "--only", "cnn", *FEW).code == 0
    after = validated(db)
    assert path.read_bytes() == content and len(after) == 1
    assert after[0]["accuracy"] == before["accuracy"] and after[0]["finished"] > before["finished"]


def test_what_to_do_next_is_what_can_be_done(run: Run, db: Path) -> None:
    full = run("validate", "--top", "1", *KERNEL)
    assert "--kernel --to model" in " ".join(full.out.split()) and "weights in" not in full.out
    cnn = run("validate", "--top", "1", "--only", "cnn", *FEW)
    assert "--kernel" not in cnn.out and "weights in" in cnn.out and "nas-artifacts" in cnn.out


def test_recorded_augmentation_is_compared(run: Run, db: Path) -> None:
    arguments = ("validate", "--top", "1", "--only", "cnn", *FEW)
    assert run(*arguments, "--crops").code == 0
    assert "recorded results stay" not in run(*arguments, "--crops").out
    words = " ".join(run(*arguments, "--flips").out.split())
    assert "for example with no --flips, --crops; --force renews" in words


def test_devices_cpu_is_for_kernels_too(run: Run, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolved(name: str) -> str:
        asked.append(name)
        return "cpu"

    monkeypatch.setattr(session, "resolve_backend", resolved)
    assert run("validate", "--top", "1", "--devices", "cpu", *KERNEL).code == 0
    assert run("validate", "--top", "1", "--devices", "cpu", "--backend", "reference", *KERNEL).code == 0
    assert run("validate", "--top", "1", *KERNEL).code == 0
    assert asked == ["cpu", "reference", "auto"]


def test_kernels_alone_need_no_torch(db: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from nas_cntk.cli import main; main()"
    command = [sys.executable, "-c", code, "validate", "--top", "1", "--only", "kernel", "--db", str(db)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["kind"] for row in validated(db)] == ["kernel"]


def test_without_torch_one_line_says_what_to_install(db: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from nas_cntk.cli import main; main()"
    command = [sys.executable, "-c", code, "validate", "--db", str(db)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("install nas-cntk[train]") and done.stderr.count("\n") == 1


def test_moved_data_are_found(run: Run, db: Path, searched: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.npz"
    moved.write_bytes((searched / "images.npz").read_bytes())
    assert run("validate", "--top", "1", "--only", "cnn", "--data", f"npz:{moved}", *FEW).code == 0
    assert json.dumps(validated(db)[0]["details"], allow_nan=False)
