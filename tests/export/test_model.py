"""`nas_cntk.load_model`: what the command predicts, from Python, for models of both kinds."""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_study import CLASSES, SHAPE, Said, Small

import nas_cntk
from nas_cntk.errors import BackendUnavailable, DataError, KernelError, ModelError, UsageError
from nas_cntk.export.predict import predict, write_csv
from nas_cntk.export.trial import Request, export_trial

KINDS = pytest.mark.parametrize("kind", ["network", "kernel regression"])


def exported(small: Small, kind: str, folder: Path) -> Path:
    small.train()
    export_trial(Request(small.db, "small", 0, str(folder), kernel=kind != "network"), Said())
    return folder


@KINDS
def test_it_says_what_the_command_writes(kind: str, small: Small, tmp_path: Path) -> None:
    folder, spec = exported(small, kind, tmp_path / "model"), f"npz:{small.npz}"
    model = nas_cntk.load_model(folder)
    assert model.classes == CLASSES and model.image_shape == SHAPE and model.kind == kind
    assert repr(model) == f"<{kind} of 3 classes for images of 6 x 5 x 3>"
    images = model.read(spec)
    assert images.dtype == np.float32 and np.array_equal(images, np.load(small.npz)["x_test"] / np.float32(255))
    write_csv(str(tmp_path / "p.csv"), predict(str(folder), spec, Said()))
    rows = list(csv.reader((tmp_path / "p.csv").read_text().splitlines()))[1:]
    scores = model.scores(images)
    assert [[f"{score:.9g}" for score in row] for row in scores] == [row[3:] for row in rows]
    assert model.predict(images).tolist() == [row[1] for row in rows]
    # Lists and tensors are images, too.
    assert np.array_equal(model.scores(torch.from_numpy(images[:3])), model.scores(images[:3]))
    np.testing.assert_allclose(model.scores(images[:3].tolist()), scores[:3], rtol=1e-5)


@KINDS
def test_the_card_says_how_to_load_it(
    kind: str, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported(small, kind, tmp_path / "model")
    (folder / "IMAGES").mkdir()
    Image.fromarray(np.load(small.npz)["x_test"][0]).save(folder / "IMAGES" / "a.png")
    monkeypatch.chdir(folder)
    programs = re.findall("```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    assert len(programs) == (2 if kind == "network" else 1)
    exec(programs[-1])
    model = nas_cntk.load_model(".")
    assert capsys.readouterr().out.startswith(f"['{model.predict(model.read(Path('IMAGES/a.png')))[0]}'] [[")


def test_what_is_not_read_is_a_warning(small: Small, tmp_path: Path) -> None:
    model = nas_cntk.load_model(exported(small, "network", tmp_path / "model"))
    (tmp_path / "photos" / "more").mkdir(parents=True)
    Image.new("RGB", (5, 6)).save(tmp_path / "photos" / "a.png")
    with pytest.warns(UserWarning, match="not read: the folders 'more'"):
        assert model.read(f"folder:{tmp_path / 'photos'}").shape == (1, *SHAPE)


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((2, 6, 5, 3), dtype=np.uint8), "images are uint8, no floats: .* divided by 255"),
        (np.zeros((6, 5, 3)), r"images have shape \(6, 5, 3\), the model reads \(n, 6, 5, 3\)"),
        (np.zeros((2, 5, 6, 3)), r"images have shape \(2, 5, 6, 3\)"),
        (np.zeros((0, 6, 5, 3)), r"images have shape \(0, 6, 5, 3\)"),
        (np.full((1, 6, 5, 3), np.nan), "NaN"),
        ([[1.0], [2.0, 3.0]], "images of one size"),
    ],
)
def test_what_are_no_images(images: Any, message: str, small: Small, tmp_path: Path) -> None:
    model = nas_cntk.load_model(exported(small, "network", tmp_path / "model"))
    for asked in (model.scores, model.predict):
        with pytest.raises(DataError, match=message):
            asked(images)


def test_backends(small: Small, tmp_path: Path) -> None:
    folder = exported(small, "network", tmp_path / "model")
    with pytest.raises(UsageError, match="backend cpu is for kernel models"):
        nas_cntk.load_model(folder, backend="cpu")
    folder = exported(small, "kernel regression", tmp_path / "kernel")
    images = nas_cntk.load_model(folder).read(f"npz:{small.npz}")[:4]
    scores = [nas_cntk.load_model(str(folder), backend).scores(images) for backend in ("auto", "cpu", "reference")]
    np.testing.assert_allclose(scores[1:], scores[:2], atol=1e-3)
    with pytest.raises((UsageError, BackendUnavailable)):
        nas_cntk.load_model(folder, "gpu")
    with pytest.raises(ModelError, match="has no model.json"):
        nas_cntk.load_model(tmp_path)


def test_a_kernel_regression_needs_no_torch(small: Small, tmp_path: Path) -> None:
    folder = exported(small, "kernel regression", tmp_path / "model")
    code = (
        "import sys, nas_cntk\n"
        f"model = nas_cntk.load_model({str(folder)!r}); model.predict(model.read({f'npz:{small.npz}'!r}))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("name", ["model.json", "architecture.json", "kernel.safetensors"])
@pytest.mark.parametrize("what", ["pipe", "zeros", "a pickle"])
def test_files_that_are_none_are_refused_and_not_waited_for(name: str, what: str, small: Small, tmp_path: Path) -> None:
    folder = exported(small, "kernel regression", tmp_path / "model")
    (folder / name).unlink()
    if what == "pipe":
        os.mkfifo(folder / name)
    elif what == "zeros":
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).write_bytes(pickle.dumps(Touches(tmp_path / "ran")))
    with pytest.raises(ModelError) as caught:
        nas_cntk.load_model(folder)
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


class Touches:
    """Unpickled by a careless reader, this leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_code_in_the_folder_is_not_run(small: Small, tmp_path: Path) -> None:
    folder = exported(small, "network", tmp_path / "model")
    (folder / "model.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    model = nas_cntk.load_model(folder)
    model.scores(np.zeros((1, *model.image_shape), np.float32))
    assert not (tmp_path / "ran").exists()


def test_what_is_no_number_is_said(small: Small, tmp_path: Path) -> None:
    folder = exported(small, "kernel regression", tmp_path / "model")
    document = json.loads((folder / "model.json").read_text())
    document["deviation"] = [1e-300] * len(document["deviation"])
    (folder / "model.json").write_text(json.dumps(document))
    model = nas_cntk.load_model(folder)
    with pytest.raises((ModelError, KernelError), match="not finite|NaN or infinite"):
        model.scores(np.ones((1, *model.image_shape), np.float32))
