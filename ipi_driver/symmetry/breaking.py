r"""Which symmetry relaxed weights break: their norms, and the largest point group that leaves them as they are.

A group leaves weights :math:`\theta` invariant within an error :math:`\epsilon` if :math:`|D(g)\theta - \theta| \le
\epsilon |\theta|` for its generators, with the non-scalar part of :math:`\theta` on both sides. Groups are tried with
their axes along x, y and z and along the axes of the weights themselves: their vectors and pseudovectors, and the
principal axes of their tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from ipi_driver.structure import FloatArray

_I = np.eye(3)
_X, _Y, _Z = _I
# an angle that no finite group of interest has: it generates the rotations about an axis
_ANY = 1.0


def _turn(axis: FloatArray, angle: float) -> FloatArray:
    return np.asarray(Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix())


def _mirror(normal: FloatArray) -> FloatArray:
    normal = normal / np.linalg.norm(normal)
    return np.asarray(_I - 2.0 * np.outer(normal, normal))


def _groups() -> list[tuple[str, list[FloatArray]]]:
    """Names and generators, the larger groups first; the main axis is z."""
    diagonal = _turn(np.ones(3), 2 * np.pi / 3)
    groups = [
        ("O(3)", [_turn(_X, _ANY), _turn(_Z, _ANY), -_I]),
        ("SO(3)", [_turn(_X, _ANY), _turn(_Z, _ANY)]),
        ("D∞h", [_turn(_Z, _ANY), _turn(_X, np.pi), -_I]),
        ("C∞v", [_turn(_Z, _ANY), _mirror(_X)]),
        ("C∞h", [_turn(_Z, _ANY), -_I]),
        ("D∞", [_turn(_Z, _ANY), _turn(_X, np.pi)]),
        ("C∞", [_turn(_Z, _ANY)]),
        ("Oh", [_turn(_Z, np.pi / 2), diagonal, -_I]),
        ("O", [_turn(_Z, np.pi / 2), diagonal]),
        ("Td", [-_turn(_Z, np.pi / 2), diagonal]),
        ("Th", [_turn(_Z, np.pi), diagonal, -_I]),
        ("T", [_turn(_Z, np.pi), diagonal]),
    ]
    for n in (6, 4, 3):
        spin, flip = _turn(_Z, 2 * np.pi / n), _turn(_X, np.pi)
        groups += [
            (f"D{n}h", [spin, flip, _mirror(_Z)]),
            (f"D{n}d", [_turn(_Z, np.pi / n) @ _mirror(_Z), flip]),
        ]
        groups += [(f"D{n}", [spin, flip]), (f"C{n}v", [spin, _mirror(_X)]), (f"C{n}h", [spin, _mirror(_Z)])]
    two, flip = _turn(_Z, np.pi), _turn(_X, np.pi)
    groups += [
        ("D2h", [two, flip, -_I]),
        ("D2d", [-_turn(_Z, np.pi / 2), flip]),
        ("C6", [_turn(_Z, np.pi / 3)]),
        ("S6", [-_turn(_Z, 2 * np.pi / 3)]),
        ("C4", [_turn(_Z, np.pi / 2)]),
        ("S4", [-_turn(_Z, np.pi / 2)]),
        ("D2", [two, flip]),
        ("C2v", [two, _mirror(_X)]),
        ("C2h", [two, -_I]),
        ("C3", [_turn(_Z, 2 * np.pi / 3)]),
        ("Ci", [-_I]),
        ("Cs", [_mirror(_Z)]),
        ("C2", [two]),
        ("C1", []),
    ]
    return groups


@dataclass(frozen=True)
class PointGroup:
    """A point group that leaves weights invariant.

    Attributes
    ----------
    name
        Schoenflies symbol; O(3) leaves everything invariant, C1 nothing.
    axis
        (3,) unit vector of its main axis; of O(3), SO(3) and C1 z.
    deviation
        Largest relative change of the weights by a generator.
    """

    name: str
    axis: tuple[float, float, float]
    deviation: float


Weights = dict[str, FloatArray]


def representation(irrep: str, matrices: FloatArray) -> FloatArray:
    """(n, 2l + 1, 2l + 1) matrices of an irrep for ``matrices`` (n, 3, 3) in O(3).

    They are those that turn the spherical harmonics of a few points, which is exact and quick for many matrices.
    """
    ir = o3.Irrep(irrep)
    points = np.random.default_rng(0).normal(size=(2 * ir.dim, 3))
    inverse = np.linalg.pinv(_harmonics(ir.l, points))
    turned = _harmonics(ir.l, (points @ np.transpose(matrices, (0, 2, 1))).reshape(-1, 3))
    natural = (inverse @ turned.reshape(len(matrices), -1, ir.dim)).transpose(0, 2, 1)
    if ir.p == (-1) ** ir.l:
        return np.asarray(natural)
    return np.asarray(natural * np.linalg.det(matrices)[:, None, None])


def _harmonics(degree: int, points: FloatArray) -> FloatArray:
    """(n, 2l + 1) spherical harmonics of e3nn in the component normalization."""
    tensor = torch.from_numpy(np.array(points, dtype=np.float64))
    found = o3.spherical_harmonics(degree, tensor, normalize=True, normalization="component")
    return np.asarray(found.numpy())


def transformed(weights: Weights, matrix: FloatArray) -> Weights:
    """Weights (2l + 1,) by irrep, as 1o, under a matrix in O(3)."""
    return {name: representation(name, matrix[None])[0] @ values for name, values in weights.items()}


def deviations(weights: Weights, matrices: FloatArray) -> FloatArray:
    """(n,) changes of the non-scalar weights under ``matrices`` (n, 3, 3), relative to their norm."""
    broken = {name: np.asarray(values) for name, values in weights.items() if name != "0e"}
    scale = norm(broken)
    squares = np.zeros(len(matrices))
    for name, values in broken.items():
        squares += np.square(representation(name, matrices) @ values - values).sum(1)
    return np.sqrt(squares) / scale if scale > 0.0 else squares


def norm(weights: Weights) -> float:
    """Euclidean norm over all irreps."""
    return float(np.sqrt(sum(float(np.square(values).sum()) for values in weights.values())))


def largest_point_group(weights: Weights, tolerance: float = 0.02, floor: float = 1e-6) -> PointGroup:
    """The first group of the list, of the larger ones first, that leaves the non-scalar weights invariant.

    Parameters
    ----------
    weights
        (2l + 1,) of each irrep by its name, in e3nn's order of components.
    tolerance
        Largest relative change that passes.
    floor
        Norm of the non-scalar weights, relative to the scalar one, below which there is no breaking.
    """
    broken = {name: np.asarray(values, dtype=np.float64) for name, values in weights.items() if name != "0e"}
    scalar = norm({name: values for name, values in weights.items() if name == "0e"})
    if norm(broken) <= floor * max(scalar, 1e-300):
        return PointGroup("O(3)", (0.0, 0.0, 1.0), 0.0)
    frames = _candidate_frames(broken)
    for name, generators in _groups():
        if not generators:
            return PointGroup(name, (0.0, 0.0, 1.0), 0.0)
        turned = frames[:, None] @ np.array(generators) @ frames[:, None].transpose(0, 1, 3, 2)
        worst = deviations(broken, turned.reshape(-1, 3, 3)).reshape(len(frames), -1).max(1)
        best = int(worst.argmin())
        if worst[best] <= tolerance:
            x, y, z = (float(v) for v in frames[best][:, 2])
            return PointGroup(name, (x, y, z), float(worst[best]))
    raise AssertionError("C1 leaves everything invariant")


def _candidate_frames(weights: Weights) -> FloatArray:
    """Rotations (n, 3, 3) whose columns are the x, y and z axes in which the groups are tried."""
    bases = [_I]
    for name in ("1o", "1e"):
        vector = weights.get(name)
        if vector is not None and np.linalg.norm(vector) > 0:
            bases.append(_basis_along(np.asarray(vector)))
    for name in ("2e", "2o"):
        if name in weights:
            bases.append(np.linalg.eigh(symmetric_tensor(weights[name]))[1])
    frames: list[FloatArray] = []
    for basis in bases:
        for order in permutations(range(3)):
            frame = basis[:, order].copy()
            frame[:, 0] *= np.sign(np.linalg.det(frame))
            frames.append(frame)
            # axes of two-fold symmetry between the axes as well
            frames.append(frame @ _turn(_Z, np.pi / 4))
    return np.array(frames)


def _basis_along(vector: FloatArray) -> FloatArray:
    """Orthonormal columns, the last along ``vector``."""
    q, _ = np.linalg.qr(np.column_stack([vector, _I[np.argsort(np.abs(vector))[:2]].T]))
    return np.asarray(q[:, [1, 2, 0]])


def symmetric_tensor(components: FloatArray) -> FloatArray:
    """(3, 3) traceless symmetric tensor Q of the l = 2 ``components`` (5,), with n Q n = sum of components × Y_2(n)."""
    # six directions fix the six elements of a symmetric tensor
    points = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=float)
    points /= np.linalg.norm(points, axis=1)[:, None]
    x, y, z = points.T
    design = np.column_stack([x * x, y * y, z * z, 2 * y * z, 2 * x * z, 2 * x * y])
    a, b, c, d, e, f = np.linalg.solve(design, signal({"2e": components}, points))
    return np.array([[a, f, e], [f, b, d], [e, d, c]])


def signal(weights: Weights, directions: FloatArray) -> FloatArray:
    """(n,) sum of the weights times spherical harmonics (component normalization) at ``directions`` (n, 3)."""
    total = np.zeros(len(directions))
    for name, values in weights.items():
        total += _harmonics(o3.Irrep(name).l, directions) @ np.asarray(values, dtype=np.float64)
    return total


def split_parities(weights: Weights) -> tuple[Weights, Weights]:
    """Non-scalar weights of the scalar signal, p = (-1)^l, and those of the pseudoscalar one."""
    irreps = {name: o3.Irrep(name) for name in weights if name != "0e"}
    natural = {name: weights[name] for name, ir in irreps.items() if ir.p == (-1) ** ir.l}
    return natural, {name: weights[name] for name in irreps if name not in natural}
