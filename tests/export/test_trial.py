"""Exporting a trial and predicting with it, as one types it; then without nas-cntk."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Result, Run, runner
from PIL import Image
from small_study import CLASSES, SPACE, Said, Small, images

from nas_cntk.errors import DataError, StudyError, UsageError
from nas_cntk.export import predict as predicting
from nas_cntk.export.arrays import read_arrays, write_arrays
from nas_cntk.export.trial import Request, export_trial


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def table(text: str) -> tuple[list[str], list[list[str]]]:
    head, *rows = csv.reader(io.StringIO(text))
    return head, rows


def one_error(result: Result, code: int = 1) -> str:
    assert result.code == code, result
    lines = result.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.err
    return lines[0]


def elsewhere(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that has no nas_cntk, installed or beside it."""
    block = (
        "import importlib.abc, sys\n"
        "class No(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'nas_cntk': raise ImportError('there is no nas_cntk here')\n"
        "sys.meta_path.insert(0, No()); sys.path.insert(0, '.')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", block + code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def program(text: str) -> str:
    """The program of a card, or of the docstring of a model.py."""
    if text.startswith('"""'):
        lines = text.split('"""')[1].splitlines()
        return "\n".join(line[4:] for line in lines if line.startswith("    ") or not line)
    return text[text.index("```python") + len("```python") :].split("```")[0]


def printed(code: str) -> list[str]:
    """The classes that a program prints, beside the model."""
    done = elsewhere(code, Path("model"))
    assert done.returncode == 0, done.stderr
    classes: list[str] = eval(done.stdout)
    assert classes and set(classes) <= set(CLASSES)
    return classes


def test_an_untrained_network_says_so(small: Small, run: Run) -> None:
    result = run("export", "0", "--to", "model", "--db", small.db)
    assert result.code == 0, result.err
    assert "The weights are random: the trial is not validated yet" in result.out
    assert f"next: nas-cntk validate 0 --study small --db {small.db}" in result.out
    assert sorted(path.name for path in Path("model").iterdir()) == [
        "README.md",
        "architecture.json",
        "model.json",
        "model.py",
    ]
    done = elsewhere("import torch, model; print(model.Network()(torch.zeros(2, 3, 6, 5)).shape)", Path("model"))
    assert done.stdout == "torch.Size([2, 3])\n", done.stderr
    assert "not trained; run `nas-cntk validate 0`" in one_error(run("predict", "model", "--data", f"npz:{small.npz}"))


def test_a_trained_network_predicts_the_same_without_nas_cntk(small: Small, run: Run) -> None:
    net = small.train()
    result = run("export", "0", "--to", "model", "--db", small.db)
    assert result.code == 0, result.err
    assert "wrote model: model.py, weights.safetensors, architecture.json, model.json, README.md" in result.out
    assert f"next: nas-cntk predict model --data npz:{small.npz}" in result.out
    result = run("predict", "model", "--data", f"npz:{small.npz}", "--output", "p.csv")
    assert result.code == 0 and result.out == "", result.err
    assert "network: 30 test images" in result.err and "accuracy" in result.err
    head, rows = table(Path("p.csv").read_text())
    assert head == ["image", "label", "margin", *(f"score_{name}" for name in CLASSES)]
    assert [row[0] for row in rows] == [str(number) for number in range(30)]
    np.savez("raw.npz", x=np.load(small.npz)["x_test"])
    code = (
        "import json, numpy, torch\n"
        "from safetensors.torch import load_file\n"
        "from model import CLASSES, Network, preprocess\n"
        "network = Network()\n"
        "network.load_state_dict(load_file('weights.safetensors'))\n"
        "network.eval()\n"
        "images = torch.from_numpy(numpy.load('../raw.npz')['x']).float() / 255\n"
        "with torch.no_grad(): scores = network(preprocess(images))\n"
        "best = scores.softmax(1)\n"
        "print(json.dumps([[CLASSES[i] for i in best.argmax(1)], best.tolist()]))\n"
    )
    done = elsewhere(code, Path("model"))
    assert done.returncode == 0, done.stderr
    labels, scores = json.loads(done.stdout)
    assert labels == [row[1] for row in rows]
    np.testing.assert_allclose(scores, np.array([row[3:] for row in rows], dtype=float), atol=1e-6)
    assert {name: tuple(array.shape) for name, array in read_arrays(Path("model/weights.safetensors")).items()} == {
        name: tuple(tensor.shape) for name, tensor in net.state_dict().items()
    }


def test_the_card_is_true(small: Small, run: Run) -> None:
    small.train()
    run("export", "0", "--to", "model", "--db", small.db)
    text = Path("model/README.md").read_text()
    assert "Trial 0 of study `small`" in text and "`npz:small.npz`" in text and "`bee, small`" in text
    assert "recipe standard" in text and "held-out images |" in text and "None is stated" in text
    assert str(small.npz.parent) not in text + Path("model/model.json").read_text()  # where it lay here
    assert "of 6 x 5 pixels" in program(text)
    Image.fromarray(np.load(small.npz)["x_test"][0]).save("model/photo.jpg")
    assert printed(program(text)) == printed(program(Path("model/model.py").read_text()))


def test_a_kernel_model(small: Small, run: Run) -> None:
    result = run("export", "1", "--to", "model", "--db", small.db, "--kernel")
    assert result.code == 0, result.err
    assert "kernel ntk of 90 of 90 training images" in result.out and "leave-one-out accuracy" in result.out
    result = run("predict", "model", "--data", f"npz:{small.npz}", "--backend", "cpu")
    assert result.code == 0, result.err
    head, rows = table(result.out)
    scores = np.array([row[3:] for row in rows], dtype=float)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    two = np.sort(scores, axis=1)[:, -2:]
    np.testing.assert_allclose([float(row[2]) for row in rows], two[:, 1] - two[:, 0], atol=1e-6)
    assert [row[1] for row in rows] == [CLASSES[i] for i in scores.argmax(axis=1)]
    truth = np.load(small.npz)["y_test"]
    correct = np.mean([row[1] == label for row, label in zip(rows, truth, strict=True)])
    assert correct > 0.6 and f"accuracy {100 * correct:.2f} ±" in result.err
    # Fewer images, chosen with the classes in proportion; another model in the same folder.
    command = ("export", "1", "--to", "model", "--db", small.db, "--kernel", "--train-images", "30")
    assert "is not empty" in one_error(run(*command))
    assert run(*command, "--force").code == 0
    assert json.loads(Path("model/model.json").read_text())["kernel"]["train_images"] == 30
    assert read_arrays(Path("model/kernel.safetensors"))["images"].shape == (30, 6, 5, 3)
    assert "30 training images" in Path("model/README.md").read_text()
    assert "too few for 3 classes" in one_error(run(*command[:-1], "2", "--force"), 2)


def test_the_card_says_how_the_weights_came_about(small: Small, run: Run) -> None:
    options = ("--only", "cnn", "--epochs", "9", "--width", "4", "--flips", "--db", small.db)
    assert run("validate", "0", *options).code == 0
    (one,) = run("show", "0", "--json", "--db", small.db).json()["validations"]
    result = run("export", "0", "--to", "model", "--db", small.db)
    score = f"accuracy {100 * one['accuracy']:.2f} ± {100 * one['stderr']:.2f} % on 30 test images."
    first = f"The weights were trained by recipe standard on 81 images, and 9 more chose the epoch: {score}"
    card, known = Path("model/README.md").read_text(), one["details"]
    assert first in result.out and first in " ".join(Path("model/model.py").read_text().split()) and first in card
    assert "SGD with Nesterov momentum 0.9, weight decay 0.0005 and batches of 64; the learning rate 0.1 falls" in card
    assert f"At most 9 epochs, or until 5 in a row bring nothing better: it ended after {known['epochs']}." in card
    assert f"those of epoch {known['best_epoch']}, whose loss was the least on the 9 images (a tenth of each" in card
    assert f"the accuracy on them was {100 * known['split_accuracy']:.2f} %." in card
    assert "| network, recipe standard, 90 training images, 9 of them to choose by |" in card
    assert "- Images were mirrored at random" in card and "- Width 4, a batch norm after every conv; seed 0" in card


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="the onnx extra is not installed")
def test_onnx(small: Small, run: Run) -> None:
    small.train()
    result = run("export", "0", "--to", "model", "--db", small.db, "--onnx")
    assert result.code == 0 and "model.onnx agrees with torch" in result.out, result.err
    code = (
        "import numpy, onnxruntime, torch\n"
        "from safetensors.torch import load_file\n"
        "from model import Network\n"
        "network = Network(); network.load_state_dict(load_file('weights.safetensors')); network.eval()\n"
        "x = numpy.random.default_rng(0).standard_normal((7, 3, 6, 5)).astype('float32')\n"
        "(found,) = onnxruntime.InferenceSession('model.onnx').run(['scores'], {'images': x})\n"
        "print(abs(found - network(torch.from_numpy(x)).detach().numpy()).max())\n"
    )
    done = elsewhere(code, Path("model"))
    assert done.returncode == 0 and float(done.stdout) < 1e-5, done.stderr


def test_photos_without_labels(small: Small, run: Run) -> None:
    run("export", "1", "--to", "model", "--db", small.db, "--kernel")
    Path("photos").mkdir()
    for name, image in zip(("b.png", 'a"1,2.png'), np.load(small.npz)["x_test"], strict=False):
        Image.fromarray(image).save(Path("photos") / name)
    result = run("predict", "model", "--data", "folder:photos")
    assert result.code == 0 and "2 images of folder:photos predicted" in result.err, result.err
    assert [row[0] for row in table(result.out)[1]] == ['a"1,2.png', "b.png"] and "accuracy" not in result.err
    one = run("predict", "model", "--data", "photos/b.png")
    assert one.code == 0 and "1 image of photos/b.png predicted" in one.err, one.err
    assert table(one.out)[1] == table(result.out)[1][1:]
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save("photos/c.png")
    message = one_error(run("predict", "model", "--data", "folder:photos"))
    assert "1 of 3 images cannot be used ('c.png: it has 9 x 9 pixels, the model reads 6 x 5" in message
    result = run("predict", "model", "--data", "folder:photos", "--skip-bad")
    assert result.code == 0 and "note: 1 of 3 images cannot be used and are left out" in result.err
    (Path("photos") / "holiday").mkdir()
    for path in list(Path("photos").glob("[ab]*.png")):
        path.rename(Path("photos/holiday") / path.name)
    (Path("photos") / "c.png").unlink()
    result = run("predict", "model", "--data", "folder:photos")
    assert "their own labels are no classes of the model" in result.err


def test_the_output_file_is_whole_or_not_there(small: Small, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small.train()
    run("export", "0", "--to", "model", "--db", small.db)
    data = ("--data", f"npz:{small.npz}")
    assert "is a folder" in one_error(run("predict", "model", *data, "--output", "model"), 2)
    assert "cannot be written" in one_error(run("predict", "model", *data, "--output", "no/p.csv"), 2)
    Path("p.csv").write_text("older")

    def fails(self: predicting.Predictions, stream: Any) -> None:
        stream.write("half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(predicting.Predictions, "write", fails)
        result = run("predict", "model", *data, "--output", "p.csv")
    assert result.code == 2 and result.err.endswith(
        "error: --output p.csv cannot be written: No space left on device\n"
    )
    assert Path("p.csv").read_text() == "older" and not list(Path().glob(".p.csv*"))
    assert run("predict", "model", *data, "--output", "p.csv").code == 0 and Path("p.csv").read_text() > "image,label"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_pipes_and_full_disks(small: Small, run: Run, tmp_path: Path) -> None:
    run("export", "0", "--to", "model", "--db", small.db, "--kernel", "--train-images", "9")
    np.savez("many.npz", x=np.resize(np.load(small.npz)["x_test"], (2000, 6, 5, 3)))  # more than a pipe holds
    command = f"{sys.executable} -m nas_cntk predict model --data npz:many.npz"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    os.mkfifo(tmp_path / "fifo")
    for script, failed, lines in (
        (f"{command} | head -1", False, 1),
        (f"{command} > /dev/full", True, 0),
        (f"cat fifo & {command} --output fifo; wait", False, 2001),
    ):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {script}"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert (done.returncode != 0, done.stdout.count("\n")) == (failed, lines), done.stderr
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
        assert ("error: standard output cannot be written: No space left on device" in done.stderr) == failed
    assert (tmp_path / "fifo").is_fifo()


@pytest.mark.parametrize("kind", ["network", "kernel"])
def test_hostile_folders(kind: str, small: Small, run: Run) -> None:
    small.train()
    run("export", "0", "--to", "good", "--db", small.db, *(["--kernel"] if kind == "kernel" else []))
    arrays = "kernel.safetensors" if kind == "kernel" else "weights.safetensors"

    def refused(spoil: Callable[[Path], object]) -> str:
        shutil.rmtree("bad", ignore_errors=True)
        shutil.copytree("good", "bad")
        spoil(Path("bad"))
        return one_error(run("predict", "bad", "--data", f"npz:{small.npz}"))

    assert "has no model.json" in refused(lambda bad: (bad / "model.json").unlink())
    assert "has no architecture.json" in refused(lambda bad: (bad / "architecture.json").unlink())
    assert f"has no {arrays}" in refused(lambda bad: (bad / arrays).unlink())
    assert "is damaged" in refused(lambda bad: (bad / "architecture.json").write_text('{"nodes": [{"op": "rm"}]}'))
    assert "is damaged" in refused(lambda bad: os.truncate(bad / arrays, 300))
    assert "is damaged" in refused(lambda bad: os.truncate(bad / arrays, (bad / arrays).stat().st_size - 1))
    held = read_arrays(Path("good") / arrays)
    for name in list(held)[:3]:
        less = {key: array for key, array in held.items() if key != name}
        assert f"has no {name}" in refused(lambda bad, less=less: (bad / arrays).write_bytes(write_arrays(less)))
        wrong = {**held, name: held[name][..., None]}
        assert f"{name} of shape" in refused(lambda bad, wrong=wrong: (bad / arrays).write_bytes(write_arrays(wrong)))

    def other_shape(bad: Path) -> None:
        document = json.loads((bad / "model.json").read_text())
        (bad / "model.json").write_text(json.dumps({**document, "image_shape": [6, 6, 3]}))

    # A global pooling net is the same for another size: then it is the images that do not fit.
    assert "of shape" in refused(other_shape) or "the model reads 6 x 6" in refused(other_shape)
    shutil.rmtree("bad")
    (Path("good") / "model.py").write_text("raise SystemExit('code of a stranger was run')")
    assert run("predict", "good", "--data", f"npz:{small.npz}").code == 0


def test_a_model_that_wants_other_images(small: Small, run: Run) -> None:
    run("export", "0", "--to", "model", "--db", small.db, "--kernel")
    assert "8 x 8 pixels, the model reads 6 x 5" in one_error(run("predict", "model", "--data", "digits"))
    np.savez("gray.npz", x=np.zeros((2, 6, 5, 4)))
    assert "4 channels, the model reads 3" in one_error(run("predict", "model", "--data", "npz:gray.npz"))


def test_what_contradicts(small: Small, run: Run) -> None:
    for options in (["--kernel", "--onnx"], ["--train-images", "9"], ["--backend", "cpu"]):
        assert "leave" in one_error(run("export", "0", "--to", "m", "--db", small.db, *options), 2)
    small.train()
    run("export", "0", "--to", "m", "--db", small.db)
    data = f"npz:{small.npz}"
    assert "backend cpu is for kernel models" in one_error(run("predict", "m", "--data", data, "--backend", "cpu"), 2)
    assert "no finished trial 99" in one_error(run("export", "99", "--to", "n", "--db", small.db))
    assert run("export", "0", "--db", small.db).code == 2


def test_data_that_moved_or_changed(small: Small, said: Said, tmp_path: Path) -> None:
    moved = tmp_path / "moved.npz"
    shutil.copy(small.npz, moved)
    done = export_trial(Request(small.db, None, 0, str(tmp_path / "a"), data=f"npz:{moved}"), said)
    assert done.to_predict == f"npz:{moved}"
    held = dict(np.load(small.npz))
    np.savez(moved, **{**held, "x": held["x"] // 2})
    with pytest.raises(StudyError, match="the data of study .* changed"):
        export_trial(Request(small.db, None, 0, str(tmp_path / "b"), data=f"npz:{moved}"), said)
    with pytest.raises(DataError, match="does not exist"):
        export_trial(Request(small.db, None, 0, str(tmp_path / "b"), data="npz:none.npz"), said)
    assert not (tmp_path / "b").exists()


def test_data_without_a_test_set(tmp_path: Path, run: Run) -> None:
    x, y = images(60)
    for label in set(y):
        (Path("photos") / label).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        Image.fromarray(image).save(f"photos/{label}/{number}.png")
    Path("space.py").write_text(SPACE)
    search = ("--trials", "1", "--subset", "20", "--holdout", "20", "--space", "space.py", "--quiet")
    assert run("search", "--data", "folder:photos", "--db", "nas.db", *search).code == 0
    result = run("export", "0", "--to", "model", "--db", "nas.db", "--kernel")
    assert "next: nas-cntk predict model --data folder:NEW_IMAGES\n" in result.out, result.err
    result = run("predict", "model", "--data", "folder:photos", "--output", "p.csv")
    assert "60 images of folder:photos predicted; accuracy" in result.err
    assert "%; if training images are among them, this flatters the model\n" in result.err
    # Any photograph is read by a model of a folder of them.
    run("export", "0", "--to", "network", "--db", "nas.db")
    assert 'read_image("photo.jpg")])  # one or more, of any size' in Path("network/model.py").read_text()


def test_a_network_too_large_for_memory(
    small: Small, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas_cntk.kernels import budget

    monkeypatch.setattr(budget, "available_memory", lambda: 1000)
    with pytest.raises(UsageError, match="does not fit into memory"):
        export_trial(Request(small.db, None, 0, str(tmp_path / "a")), said)
