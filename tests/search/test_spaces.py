"""Shipped spaces propose only what is legal; a bad file of one's own is one clear line."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from nas_cntk import Architecture, Builder, nasbench201
from nas_cntk.errors import IllegalArchitecture, RecordsError, SpaceError
from nas_cntk.ops import AvgPool, Conv, Flatten, GlobalAvgPool
from nas_cntk.search import spaces

SHIPPED = ["plain", "resnet", "stages"]  # with the three heads
SHAPES = [(8, 8, 1), (12, 10, 3), (16, 16, 3), (28, 28, 1), (32, 32, 3), (1, 1, 1), (2, 5, 3), (3, 1, 2)]


class Dice:
    """A trial that draws every value at random, and holds a space to one distribution per name."""

    def __init__(self, rng: random.Random, distributions: dict[str, object]) -> None:
        self.rng, self.distributions, self.params = rng, distributions, {}

    def _same(self, name: str, distribution: object) -> None:
        assert self.distributions.setdefault(name, distribution) == distribution
        assert name not in self.params

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self._same(name, (low, high))
        self.params[name] = self.rng.randint(low, high)
        return self.params[name]

    def suggest_categorical(self, name: str, choices):
        self._same(name, list(choices))
        self.params[name] = self.rng.choice(choices)
        return self.params[name]


def written(folder: Path, text: str | bytes, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_shipped_spaces_are_found_and_short() -> None:
    assert set(SHIPPED) <= set(spaces.shipped_spaces())
    for path in spaces.shipped_spaces().values():
        assert len(path.read_text().splitlines()) < 80


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_thousand_random_proposals_are_legal_with_every_head(name: str, shape: tuple[int, int, int]) -> None:
    space = spaces.load_space(name)
    rng, distributions, heads, keys = random.Random(0), {}, set(), set()
    for _ in range(1000):
        trial = Dice(rng, distributions)
        arch = space.propose(trial, shape)
        arch.check(shape)
        head = arch.nodes[arch.nodes[-1].inputs[0]]
        heads.add(trial.params["head"])
        assert isinstance(head.op, GlobalAvgPool if trial.params["head"] == "global" else Flatten)
        pooled = arch.nodes[head.inputs[0]].op
        if trial.params["head"] == "local" and min(arch.shapes(shape)[head.inputs[0]]) > 1:
            assert isinstance(pooled, AvgPool) and pooled.stride == 1 and pooled.size > 1
        keys.add(arch.to_json())
    assert heads == {"flatten", "local", "global"}
    assert len(keys) > 50


def test_a_thousand_random_cells_of_nasbench201_are_legal_or_dead() -> None:
    space = spaces.load_space("nasbench201")
    rng, distributions, dead, seen = random.Random(0), {}, 0, set()
    for _ in range(1000):
        trial = Dice(rng, distributions)
        try:
            seen.add(space.propose(trial, (8, 8, 3)).to_json())
        except IllegalArchitecture as error:
            assert "dead cell" in str(error)
            dead += 1
    assert 5 < dead < 60 and len(seen) > 500  # 341 of 15,625 are dead
    params = nasbench201.edges_of("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    # A conv that nothing reads is no part of the network: equal networks cost the same.
    assert space.sizes(params, (32, 32, 3), 10) == nasbench201.sizes(nasbench201.text_of(params | {"op_0_1": "none"}))
    make = space.network(params, (32, 32, 3), 10)
    assert make is not None
    assert sum(weight.numel() for weight in make().parameters()) == space.sizes(params, (32, 32, 3), 10)[0]


PROPOSE = "from nas_cntk import Builder\ndef propose(trial, image_shape):\n    raise ValueError\n"


def test_what_a_space_adds_is_checked(tmp_path: Path) -> None:
    plain = spaces.load_space(written(tmp_path, PROPOSE))
    assert plain.sizes({}, (8, 8, 1), 10) is None and plain.network({}, (8, 8, 1), 10) is None
    good = "def cost(params, image_shape, num_classes):\n    return {'params': params['a'], 'flops': num_classes}\n"
    assert spaces.load_space(written(tmp_path, PROPOSE + good)).sizes({"a": 3}, (8, 8, 1), 10) == (3, 10)
    for text, match in (
        ("cost = 3\n", "has a cost that is int"),
        ("def cost(params, image_shape, num_classes):\n    return 3\n", "cost of space mine returned 3"),
        ("def cost(params, image_shape, num_classes):\n    return {'params': -1, 'flops': 1}\n", "cost of space mine"),
        ("def cost(params):\n    return {}\n", "cost of space mine raised TypeError"),
        (
            "def cost(params, image_shape, num_classes):\n    return params['b']\n",
            "cost of space mine raised KeyError at line 5",
        ),
    ):
        with pytest.raises(SpaceError, match=match):
            spaces.load_space(written(tmp_path, PROPOSE + text)).sizes({}, (8, 8, 1), 10)


@pytest.mark.parametrize("name", SHIPPED)
def test_equal_parameters_give_equal_architectures(name: str) -> None:
    space = spaces.load_space(name)
    first = space.propose(Dice(random.Random(3), {}), (8, 8, 1))
    assert first.key == space.propose(Dice(random.Random(3), {}), (8, 8, 1)).key


def test_spaces_differ_as_they_say() -> None:
    def all_ops(name: str) -> set[tuple[str, int]]:
        rng, space = random.Random(1), spaces.load_space(name)
        archs = [space.propose(Dice(rng, {}), (16, 16, 3)) for _ in range(100)]
        return {(n.op.NAME, getattr(n.op, "stride", 1)) for arch in archs for n in arch.nodes}

    assert ("add", 1) not in all_ops("plain") and ("conv", 2) not in all_ops("plain")
    assert {("add", 1), ("conv", 2)} <= all_ops("resnet") and ("avg_pool", 2) not in all_ops("resnet")
    assert {("add", 1), ("avg_pool", 2)} <= all_ops("stages") and ("conv", 2) not in all_ops("stages")


def test_real_samplers_can_use_the_shipped_spaces() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in SHIPPED:
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            tpe = optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=5, seed=0)
        for sampler in (tpe, optuna.samplers.RandomSampler(seed=0)):
            space, study = spaces.load_space(name), optuna.create_study(sampler=sampler)
            for _ in range(12):
                trial = study.ask()
                arch = space.propose(trial, (8, 8, 1))
                study.tell(trial, float(arch.count_flops((8, 8, 1), 10)))


def test_a_file_of_ones_own_is_a_space(tmp_path: Path) -> None:
    text = """
from __future__ import annotations
from dataclasses import dataclass
from nas_cntk import Builder

@dataclass
class Choice:
    kernel: int

def propose(trial, image_shape):
    choice = Choice(trial.suggest_categorical("kernel", [3, 5]))
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), choice.kernel))))
    return b.build()
"""
    path = written(tmp_path, text)
    space = spaces.load_space(path)
    assert (space.name, space.path) == ("mine", path)
    assert space.source_hash == hashlib.sha256(text.encode()).hexdigest()
    arch = space.propose(Dice(random.Random(0), {}), (8, 8, 1))
    assert isinstance(arch, Architecture) and isinstance(arch.nodes[1].op, Conv)
    assert list(tmp_path.iterdir()) == [path]  # no cache left beside it
    assert spaces.load_space(str(path)).source_hash == space.source_hash
    assert spaces.load_space(written(tmp_path, text + "\n")).source_hash != space.source_hash


def test_an_illegal_proposal_is_told_apart(tmp_path: Path) -> None:
    body = "from nas_cntk import Builder\ndef propose(trial, shape):\n    b = Builder()\n    x = b.input()\n"
    no_kernel = written(tmp_path, body + "    b.dense(b.flatten(b.relu(x)))\n    return b.build()\n")
    with pytest.raises(IllegalArchitecture, match="raw image"):
        spaces.load_space(no_kernel).propose(None, (8, 8, 1))
    too_large = written(tmp_path, body + "    b.dense(b.flatten(b.avg_pool(b.conv(x, 3), 9)))\n    return b.build()\n")
    with pytest.raises(IllegalArchitecture):
        spaces.load_space(too_large).propose(None, (8, 8, 1))
    spaces.load_space(too_large).propose(None, (9, 9, 1))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no such\\nthing')", "raised ValueError at line 2: no such thing"),
        ("return 1 / 0", "raised ZeroDivisionError at line 2"),
        ("return None", "returned None"),
        ("return {'nodes': []}", "returned {'nodes': []}"),
        ("return 'x' * 10**6", "returned 'xxx"),
        ("trial.suggest_intt('a', 1, 2)", "raised AttributeError at line 2"),
        ("raise KeyError", "raised KeyError at line 2"),
        (
            "import nas_cntk; b = nas_cntk.Builder(); b.conv(b.input(), 4); return b.build()",
            "raised ArchitectureError",
        ),
    ],
)
def test_a_failing_propose_ends_in_one_line(tmp_path: Path, body: str, message: str) -> None:
    space = spaces.load_space(written(tmp_path, f"def propose(trial, image_shape):\n    {body}\n"))
    with pytest.raises(SpaceError) as caught:
        space.propose(Dice(random.Random(0), {}), (8, 8, 1))
    assert message in str(caught.value) and "mine.py" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RecordsError("disk full")], ids=repr)
def test_what_is_not_the_spaces_fault_passes_through(tmp_path: Path, error: BaseException) -> None:
    class Failing:
        def suggest_int(self, *_: object) -> int:
            raise error

    with pytest.raises(type(error)):
        spaces.load_space("plain").propose(Failing(), (8, 8, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def propose(trial, image_shape)\n    pass\n", "line 1: syntax error"),
        ("x = 1\n\nfor\n", "line 3: syntax error"),
        ("import nas_cntk\n", "has no function propose"),
        ("", "has no function propose"),
        ("propose = 3\n", "has a propose that is int"),
        ("import no_such_module_anywhere\n", "raised ModuleNotFoundError at line 1"),
        ("x = 1\nraise RuntimeError('a\\nb')\n", "raised RuntimeError at line 2: a b"),
        ("raise SystemExit(3)\n", "raised SystemExit at line 1: 3"),
        (b"\xff\xfe\x00", "mine.py"),
        (b"x = '\xff'\n", "mine.py"),
    ],
)
def test_a_file_that_is_no_space_is_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        spaces.load_space(written(tmp_path, text))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plian", "did you mean plain? known spaces: nasbench201, plain, resnet, stages"),
        ("zzz", "unknown space 'zzz'; known spaces: "),
        ("", "unknown space ''"),
        ("nowhere.py", "cannot read space nowhere.py: No such file or directory"),
        ("/", "Is a directory"),
        ("a\0.py", "cannot read space"),
        ("y" * 1000, "unknown space 'yyy"),
    ],
)
def test_an_unknown_space_is_one_line(name: str, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        spaces.load_space(name)
    assert message in str(caught.value) and len(str(caught.value)) < 500


def test_loading_a_shipped_space_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nas_cntk.search import spaces; spaces.load_space('stages');"
        "print(sorted({'torch', 'optuna', 'sqlalchemy', 'sklearn', 'scipy', 'cupy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_head_fits_every_map() -> None:
    for height in range(1, 12):
        for width in range(1, 12):
            for share in spaces.LOCAL_SHARES:
                fixed = Dice(random.Random(0), {})
                fixed.suggest_categorical = lambda name, _, s=share: "local" if name == "head" else s
                b = Builder()
                b.dense(spaces.head(fixed, b, b.conv(b.input(), 3), (height, width)))
                b.build().check((height, width, 1))


def test_a_space_may_name_its_score(tmp_path: Path) -> None:
    assert (
        spaces.load_space("plain").score == "holdout_accuracy"
        and spaces.load_space("nasbench201").score == "alignment_gain"
    )
    path = tmp_path / "mine.py"
    path.write_text("SCORE = 'loo_mse'\n\n\ndef propose(trial, shape):\n    return None\n")
    assert spaces.load_space(str(path)).score == "loo_mse"
    path.write_text("SCORE = 3\n\n\ndef propose(trial, shape):\n    return None\n")
    with pytest.raises(SpaceError, match="has a SCORE that is int"):
        spaces.load_space(str(path))
