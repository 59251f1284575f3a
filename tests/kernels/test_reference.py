"""The reference against programs and facts that use none of its code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from random_architectures import random_architecture

from nas_cntk import Architecture, Builder, kernel, ops
from nas_cntk.architecture import Node

Matrix = NDArray[np.float64]
SHAPES = ((4, 3, 2), (3, 5, 3), (5, 5, 2), (1, 4, 2), (1, 1, 3))


def dense_maps(arch: Architecture, x: Matrix, y: Matrix) -> tuple[float, float]:
    """Return nngp and ntk of two images, by explicit matrices.

    Every node is a sum over *sources* (the image, each conv's output, each relu's output), each seen through a linear
    map, kept here as a matrix from the source's positions to the node's. Both images are stacked, so that the matrices
    C[s, t] and T[s, t] between two sources hold all four blocks (x, x), (x, y), (y, x), (y, y), and variances are on
    their diagonals.
    """
    h, w, c = x.shape
    shapes = arch.shapes((h, w, c))
    maps: dict[int, dict[int, Matrix]] = {}  # node -> source -> (positions of the node, positions of the source)
    covariance: dict[tuple[int, int], Matrix] = {}
    tangent: dict[tuple[int, int], Matrix] = {}
    relus: set[int] = set()

    def between(table: dict[tuple[int, int], Matrix], u: dict[int, Matrix], v: dict[int, Matrix]) -> Matrix:
        return sum(twice(a) @ table[s, t] @ twice(b).T for s, a in u.items() for t, b in v.items())  # type: ignore[return-value]

    def new_source(index: int, of_itself: tuple[Matrix, Matrix]) -> None:
        for table, own in zip((covariance, tangent), of_itself, strict=True):
            for other in {s for s, _ in table}:
                zero = np.zeros((len(own), len(table[other, other])))
                table[index, other], table[other, index] = zero, zero.T
            table[index, index] = own
        maps[index] = {index: np.eye(shapes[index][0] * shapes[index][1])}

    for index in arch.live:
        op, inputs = arch.nodes[index].op, arch.nodes[index].inputs
        if isinstance(op, ops.Input):
            pixels = np.concatenate([x.reshape(-1, c), y.reshape(-1, c)])
            new_source(index, (pixels @ pixels.T / c, np.zeros((2 * h * w, 2 * h * w))))
        elif isinstance(op, ops.Conv):
            reads = maps[inputs[0]]
            (h1, w1), (h2, w2) = shapes[inputs[0]], shapes[index]
            reach = op.kernel // 2
            s, t = between(covariance, reads, reads), between(tangent, reads, reads)
            new_s, new_t = np.zeros((2 * h2 * w2, 2 * h2 * w2)), np.zeros((2 * h2 * w2, 2 * h2 * w2))
            for a in range(-reach, reach + 1):
                for b in range(-reach, reach + 1):
                    tap = twice(np.kron(shift(h1, h2, op.stride, a), shift(w1, w2, op.stride, b)))
                    new_s += tap @ s @ tap.T / op.kernel**2
                    new_t += tap @ t @ tap.T / op.kernel**2
            new_source(index, (new_s, new_t + new_s if op.trainable else new_t))
        elif isinstance(op, ops.Relu):
            reads = maps[inputs[0]]
            others = sorted({s for s, _ in covariance})
            variance = np.diag(between(covariance, reads, reads))
            angle, size = angles(between(covariance, reads, reads), variance, variance)
            np.fill_diagonal(angle, 0.0)
            size_t = (1 - angle / math.pi) * between(tangent, reads, reads) * (size > 0)
            new_source(index, (size * arc_cosine(angle), size_t))
            for other in others:
                if other not in relus:  # Stein's lemma
                    cross = {other: np.eye(len(covariance[other, other]) // 2)}
                    s, t = (between(table, reads, cross) / math.sqrt(2) for table in (covariance, tangent))
                else:
                    theirs = maps[arch.nodes[other].inputs[0]]
                    their_variance = np.diag(between(covariance, theirs, theirs))
                    angle, size = angles(between(covariance, reads, theirs), variance, their_variance)
                    s = size * arc_cosine(angle)
                    t = (1 - angle / math.pi) * between(tangent, reads, theirs) * (size > 0)
                covariance[index, other], covariance[other, index] = s, s.T
                tangent[index, other], tangent[other, index] = t, t.T
            relus.add(index)
        elif isinstance(op, ops.AvgPool):
            (h1, w1), (h2, w2) = shapes[inputs[0]], shapes[index]
            means = np.kron(averages(op, h1, h2), averages(op, w1, w2))
            maps[index] = {s: means @ a for s, a in maps[inputs[0]].items()}
        elif isinstance(op, ops.Add):
            total: dict[int, Matrix] = {}
            for i in inputs:
                for source, a in maps[i].items():
                    total[source] = total[source] + a if source in total else a
            maps[index] = total
        elif isinstance(op, (ops.Flatten, ops.GlobalAvgPool)):
            reads = maps[inputs[0]]
            n = shapes[inputs[0]][0] * shapes[inputs[0]][1]
            weights = np.eye(n) / n if isinstance(op, ops.Flatten) else np.full((n, n), 1 / n**2)
            features = [float((weights * between(t, reads, reads)[:n, n:]).sum()) for t in (covariance, tangent)]
        else:
            assert isinstance(op, ops.Dense)
            return features[0], features[1] + (features[0] if op.trainable else 0.0)
    raise AssertionError("no readout")


def twice(a: Matrix) -> Matrix:
    """The same map on both images."""
    return np.kron(np.eye(2), a)


def shift(before: int, after: int, stride: int, a: int) -> Matrix:
    """out[i] = in[stride i + a], zero outside."""
    tap = np.zeros((after, before))
    for i in range(after):
        if 0 <= stride * i + a < before:
            tap[i, stride * i + a] = 1
    return tap


def averages(op: ops.AvgPool, before: int, after: int) -> Matrix:
    means = np.zeros((after, before))
    for i in range(after):
        first = op.stride * i - (op.size // 2 if op.padding == "same" else 0)
        inside = [k for k in range(first, first + op.size) if 0 <= k < before]
        means[i, inside] = 1 / len(inside)
    return means


def angles(s: Matrix, v: Matrix, w: Matrix) -> tuple[Matrix, Matrix]:
    """Return the angle between two Gaussian variables, and the product of their lengths."""
    size = np.sqrt(np.outer(v, w))
    sine = np.sqrt(np.maximum(np.outer(v, w) - s**2, 0.0))
    # Nearly parallel means parallel: two sums that are multiples of each other, apart from rounding.
    return np.arctan2(np.where(sine < 1e-6 * size, 0.0, sine), s), size


def arc_cosine(angle: Matrix) -> Matrix:
    return (np.sin(angle) + (math.pi - angle) * np.cos(angle)) / math.pi


@pytest.mark.parametrize("chunk", range(6))
def test_against_dense_maps(chunk: int) -> None:
    for seed in range(3000 + 10 * chunk, 3010 + 10 * chunk):
        shape = SHAPES[seed % len(SHAPES)]
        form, arch = random_architecture(seed, shape)
        if any(getattr(node.op, "kernel", 1) > 99 for node in arch.nodes):
            continue  # a million taps, one matrix each
        x, y = np.random.default_rng(seed).standard_normal((2, *shape))
        x[:1] = 0.0
        true = dense_maps(arch, x, y)
        own = dense_maps(arch, x, x)
        for backend in ("reference", "cpu"):
            k = kernel(arch, x[None], y[None], kind="both", backend=backend, dtype="float64")
            k_own = kernel(arch, x[None], kind="both", backend=backend, dtype="float64")
            name = f"{seed}: {form} on {shape}, {backend}: {arch.to_json()}"
            scale = max(abs(value) for value in (*true, *own)) or 1.0
            np.testing.assert_allclose(np.ravel(k) / scale, np.array(true) / scale, atol=1e-9, err_msg=name)
            np.testing.assert_allclose(np.ravel(k_own) / scale, np.array(own) / scale, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_one_position_is_the_fully_connected_network(depth: int, backend: str) -> None:
    """On 1x1 images 1x1 convs are layers of a fully connected network.

    Source: equation 7 (Sigma) and equation 13, the ntk as the sum over layers of Sigma^(h-1) times the product of the
    later derivatives; the expectations by a sum over directions, not in closed form.
    """
    b = Builder()
    x = b.input()
    for _ in range(depth):
        x = b.relu(b.conv(x, 1))
    b.dense(b.flatten(x))
    arch = b.build()
    u, v = np.random.default_rng(depth).standard_normal((2, 4))
    s, sigmas, derivatives = np.array([[u @ u, u @ v], [u @ v, v @ v]]) / 4, [], []
    sigmas.append(s)
    for _ in range(depth):
        lengths = np.sqrt(np.diag(s))
        theta = math.acos(s[0, 1] / lengths.prod())
        # Both are positive on the directions from theta - pi/2 to pi/2 of the plane; |z|^2 has mean 2.
        phi, weights = np.polynomial.legendre.leggauss(40)
        phi = theta / 2 + phi * (math.pi - theta) / 2
        density = weights * (math.pi - theta) / 2 / (2 * math.pi)
        product = 2 * (density * 2 * np.cos(phi) * np.cos(phi - theta)).sum() * lengths.prod()
        derivatives.append(2 * density.sum())
        s = np.array([[s[0, 0], product], [product, s[1, 1]]])
        sigmas.append(s)
    nngp = sigmas[-1][0, 1]
    ntk = sum(sigmas[h][0, 1] * math.prod(derivatives[h:]) for h in range(depth + 1))
    got = kernel(arch, u.reshape(1, 1, 1, 4), v.reshape(1, 1, 1, 4), kind="both", backend=backend, dtype="float64")
    np.testing.assert_allclose(np.ravel(got), [nngp, ntk], rtol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_symmetries(backend: str) -> None:
    """Images transposed, exchanged, rotated in their channels, brighter; flipped, where every window is centred."""
    rng = np.random.default_rng(5)
    for seed in range(4000, 4024):
        shape = ((4, 5, 3), (3, 3, 2), (6, 2, 2))[seed % 3]
        _, arch = random_architecture(seed, shape)
        x, y = rng.standard_normal((2, 2, *shape))

        def both(x: Matrix, y: Matrix, arch: Architecture = arch) -> Matrix:
            return np.stack(kernel(arch, x, y, kind="both", backend=backend, dtype="float64"))

        k = both(x, y)
        same = {"rtol": 1e-8, "atol": 1e-8 * np.abs(k).max(), "err_msg": arch.to_json()}
        np.testing.assert_allclose(both(x.swapaxes(1, 2), y.swapaxes(1, 2)), k, **same)
        np.testing.assert_allclose(both(y, x), k.swapaxes(1, 2), **same)
        rotation = np.linalg.qr(rng.standard_normal((shape[2], shape[2])))[0]
        np.testing.assert_allclose(both(x @ rotation, y @ rotation), k, **same)
        np.testing.assert_allclose(both(3 * x, y / 2), 1.5 * k, **same)
        centred = Architecture(tuple(Node(_centred(node.op), node.inputs) for node in arch.nodes))
        k = both(x, y, centred)
        np.testing.assert_allclose(both(x[:, ::-1], y[:, ::-1], centred), k, **same)
        np.testing.assert_allclose(both(x[:, :, ::-1], y[:, :, ::-1], centred), k, **same)


def _centred(op: ops.Op) -> ops.Op:
    # Without strides, and with every window centred: what a flip of the images leaves as it is.
    if isinstance(op, ops.Conv):
        return ops.Conv(op.kernel, 1, op.trainable)
    return ops.AvgPool(op.size | 1, 1, "same") if isinstance(op, ops.AvgPool) else op


def test_kernels_are_positive_semidefinite() -> None:
    for seed in range(4100, 4112):
        _, arch = random_architecture(seed, (4, 4, 2))
        x = np.random.default_rng(seed).standard_normal((12, 4, 4, 2))
        for k in kernel(arch, x, kind="both", backend="cpu", dtype="float64"):
            values = np.linalg.eigvalsh(k)
            assert values[0] > -1e-10 * values[-1], arch.to_json()


def test_relu_of_a_sum_with_itself() -> None:
    """relu(x + x) is 2 relu(x), and x + x + x is 3 x, through everything that follows."""

    def net(times: int, after: bool) -> Architecture:
        b = Builder()
        x = b.conv(b.input(), 3)
        x = b.add(*[b.relu(x)] * times) if after else b.relu(b.add(*[x] * times))
        b.dense(b.global_avg_pool(b.relu(b.conv(x, 3))))
        return b.build()

    x = np.random.default_rng(0).standard_normal((3, 5, 4, 2))
    once = np.stack(kernel(net(1, True), x, kind="both", backend="reference", dtype="float64"))
    for backend in ("reference", "cpu"):
        for times in (2, 3):
            for after in (True, False):
                k = np.stack(kernel(net(times, after), x, kind="both", backend=backend, dtype="float64"))
                # The readout and the second conv are trained on features `times` as large, the first conv through them.
                np.testing.assert_allclose(k, times**2 * once, rtol=1e-12)


CHAINS: dict[str, tuple[ops.AvgPool, ...]] = {
    "nothing": (),
    "one pooling": (ops.AvgPool(3, 1, "same"),),
    "a stride": (ops.AvgPool(2, 2), ops.AvgPool(3, 1, "same")),
    "three poolings": (ops.AvgPool(3, 1, "same"), ops.AvgPool(3, 1, "same"), ops.AvgPool(3, 1, "same")),
    "nearly the mean": (ops.AvgPool(1023, 1, "same"), ops.AvgPool(5, 1, "same")),
}


@pytest.mark.parametrize("backend, dtype", [("reference", "float64"), ("cpu", "float64"), ("cpu", "float32")])
@pytest.mark.parametrize("chain", list(CHAINS))
def test_gray_images_under_a_1x1_conv(chain: str, backend: str, dtype: str) -> None:
    """One weight times a linear map g of the image: every correlation is 1 or -1, and the kernel is max(g g', 0).

    k0 has a square root there, so a correlation that is off by rounding costs half the digits. Poolings nearly cancel
    what they add, and leave a rounding error that is large beside the little that remains.
    """
    b = Builder()
    x = b.conv(b.input(), 1)
    for op in CHAINS[chain]:
        x = b.node(op, x)
    b.dense(b.global_avg_pool(b.relu(x)))
    arch = b.build()
    for seed in range(30):
        images = np.random.default_rng(seed).standard_normal((3, 6, 5, 1))
        g = images[..., 0]
        for op in CHAINS[chain]:
            means = [averages(op, n, op.output_shape((g.shape[1:],))[axis]) for axis, n in enumerate(g.shape[1:])]
            g = np.einsum("ai,nij,bj->nab", means[0], g, means[1])
        nngp = np.maximum(np.einsum("nij,mkl->nmijkl", g, g), 0).mean(axis=(2, 3, 4, 5))
        got = kernel(arch, images, kind="both", backend=backend, dtype=dtype)
        for matrix, true in zip(got, (nngp, 2 * nngp), strict=True):
            error = np.abs(matrix - true).max() / np.abs(true).max()
            assert error < (1e-9 if dtype == "float64" else 5e-5), f"seed {seed}: {error:.1e}"
