"""The canonical key: a hash of a canonical form of the graph, so that equal keys mean equal functions.

The form drops dead nodes, flattens adds into a map input -> multiplicity, and merges weightless nodes with equal
parameters and equal inputs. Convs and the readout have weights of their own and are never merged. What is left is a
labelled DAG; its nodes are put into an order that does not depend on the spelling by colour refinement over inputs
*and* readers (over inputs alone, twins with different readers would fuse), and by individualisation on ties.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from nas_cntk import ops
from nas_cntk.errors import ArchitectureError

if TYPE_CHECKING:
    from nas_cntk.architecture import Node

WORK_LIMIT = 5_000_000  # edges looked at while breaking ties; an architecture of this symmetry has no use

MOST_TIMES = 10**4000  # that a sum may hold one branch: Python writes no longer numbers, and no kernel is finite

Value = tuple[tuple[int, int], ...]  # a sum of atoms: (atom, multiplicity), sorted by atom


@dataclass(frozen=True, slots=True)
class Atom:
    """A node that is no add: its op and the sums it reads, one `Value` (the image reads none)."""

    op: ops.Op
    reads: Value


def simplify(nodes: Sequence[Node], indices: Sequence[int]) -> tuple[tuple[Atom, ...], dict[int, Value]]:
    """Return the atoms, in topological order, and the value of every node index.

    Args:
        nodes: the live nodes in topological order.
        indices: their indices in the architecture, which `Node.inputs` refer to.

    Raises:
        ArchitectureError: if a sum of sums holds a branch more than `MOST_TIMES`.
    """
    atoms: list[Atom] = []
    weightless: dict[tuple[object, ...], int] = {}
    values: dict[int, Value] = {}
    for index, node in zip(indices, nodes, strict=True):
        total: dict[int, int] = {}
        for i in node.inputs:
            for atom, multiplicity in values[i]:
                total[atom] = total.get(atom, 0) + multiplicity
        if max(total.values(), default=0) > MOST_TIMES:
            raise ArchitectureError(
                f"the sums up to node {index} hold one branch more than 10^4000 times; add it fewer times"
            )
        reads = tuple(sorted(total.items()))
        if isinstance(node.op, ops.Add):
            values[index] = reads
            continue
        label = (*_label(node.op), reads)
        if not isinstance(node.op, (ops.Conv, ops.Dense)) and label in weightless:
            values[index] = ((weightless[label], 1),)
            continue
        atoms.append(Atom(node.op, reads))
        weightless[label] = len(atoms) - 1
        values[index] = ((len(atoms) - 1, 1),)
    return tuple(atoms), values


def key(nodes: Sequence[Node], indices: Sequence[int]) -> str:
    """Return the canonical key of live nodes, 32 hexadecimal digits.

    Raises:
        ArchitectureError: if the graph is so symmetric that its ties cannot be broken within `WORK_LIMIT`, or as
            `simplify`.
    """
    atoms, _ = simplify(nodes, indices)
    return hashlib.sha256(_Canonical(atoms).form().encode()).hexdigest()[:32]


class _Canonical:
    def __init__(self, atoms: tuple[Atom, ...]) -> None:
        # Interchangeable convs (equal op, inputs and readers) are kept once with their number: any order of them
        # gives the same graph, and k of them would otherwise cost k! tries.
        self.reads = [dict(atom.reads) for atom in atoms]
        readers: list[dict[int, int]] = [{} for _ in atoms]
        for reader, atom in enumerate(atoms):
            for read, multiplicity in atom.reads:
                readers[read][reader] = multiplicity
        twins: dict[tuple[object, ...], list[int]] = {}
        for index, atom in enumerate(atoms):
            kind = (*_label(atom.op), atom.reads, tuple(sorted(readers[index].items())))
            twins.setdefault(kind, []).append(index)
        kept = sorted(group[0] for group in twins.values())
        place = {atom: position for position, atom in enumerate(kept)}
        number = {group[0]: len(group) for group in twins.values()}
        self.label = [(*_label(atoms[index].op), number[index]) for index in kept]
        self.reads = [{place[a]: m for a, m in atoms[index].reads if a in place} for index in kept]
        self.readers = [{place[a]: m for a, m in readers[index].items() if a in place} for index in kept]
        self.edges = sum(map(len, self.reads)) + len(kept)
        self.work = 0

    def form(self) -> str:
        """Return the text of the canonical form."""
        depth = [0] * len(self.label)
        for index, reads in enumerate(self.reads):
            depth[index] = 1 + max((depth[i] for i in reads), default=-1)
        return self._least(self._refine(_ranked([(d, x) for d, x in zip(depth, self.label, strict=True)])))

    def _least(self, colours: list[int]) -> str:
        # Depth-first over the ties; iterative in the first member, so that long chains of ties need no deep stack.
        path: list[tuple[list[int], list[int]]] = []
        while (tie := _first_tie(colours)) is not None:
            path.append((colours, tie))
            colours = self._refine(_individualised(colours, tie[0]))
        best = self._encode(colours)
        for at, tie in reversed(path):
            seen = {best}
            for member in tie[1:]:
                branch = self._refine(_individualised(at, member))
                leaf = branch
                while (deeper := _first_tie(leaf)) is not None:
                    leaf = self._refine(_individualised(leaf, deeper[0]))
                # A leaf already seen means an automorphism onto an explored branch: nothing new below.
                if self._encode(leaf) in seen:
                    continue
                seen.add(self._encode(leaf))
                best = min(best, self._least(branch))
        return best

    def _refine(self, colours: list[int]) -> list[int]:
        while True:
            self.work += 2 * self.edges
            if self.work > WORK_LIMIT:
                raise ArchitectureError(
                    "this architecture has too many interchangeable branches to give it a canonical key;"
                    " use fewer equal branches"
                )
            signatures = [
                (
                    colours[index],
                    tuple(sorted((colours[i], m) for i, m in self.reads[index].items())),
                    tuple(sorted((colours[i], m) for i, m in self.readers[index].items())),
                )
                for index in range(len(colours))
            ]
            refined = _ranked(signatures)
            if len(set(refined)) == len(set(colours)):
                return refined
            colours = refined

    def _encode(self, colours: list[int]) -> str:
        order = sorted(range(len(colours)), key=colours.__getitem__)
        return repr([(self.label[i], sorted((colours[a], m) for a, m in self.reads[i].items())) for i in order])


def _label(op: ops.Op) -> tuple[object, ...]:
    return op.NAME, *astuple(op)


def _ranked(signatures: Sequence[tuple[object, ...]]) -> list[int]:
    rank = {signature: i for i, signature in enumerate(sorted(set(signatures)))}
    return [rank[signature] for signature in signatures]


def _first_tie(colours: list[int]) -> list[int] | None:
    members: dict[int, list[int]] = {}
    for index, colour in enumerate(colours):
        members.setdefault(colour, []).append(index)
    ties = [colour for colour, group in members.items() if len(group) > 1]
    return members[min(ties)] if ties else None


def _individualised(colours: list[int], member: int) -> list[int]:
    # The chosen member comes before the rest of its colour.
    return [2 * colour + (index != member) for index, colour in enumerate(colours)]
