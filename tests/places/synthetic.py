"""Run folders in i-PI's own file layout with motion of known diffusion, reorientation and temperature."""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ipi_driver.units import ATOMIC_TIME, BOHR, DALTON, KB

WATER = np.array([[0.0, 0.0, 0.0], [0.9572, 0.0, 0.0], [-0.23999, 0.92663, 0.0]])
MASSES = np.array([15.9994, 1.00794, 1.00794])
LENGTH = 14.0  # molecules start 3.5 Å apart and do not touch

INPUT = """<simulation>
  <output prefix='simulation'>
    <properties stride='{stride}' filename='out'> [ step, time{{picosecond}}, conserved{{electronvolt}},
      potential{{electronvolt}} ] </properties>
    <trajectory filename='pos' stride='{stride}'> positions{{angstrom}} </trajectory>
    <trajectory filename='vel' stride='{stride}'> velocities </trajectory>
    <trajectory filename='frc' stride='{stride}'> forces{{ev/ang}} </trajectory>
  </output>
  <system>
    <initialize nbeads='1'></initialize>
    <forces><force forcefield='model'></force></forces>
    <motion mode='{motion}'>
      <dynamics mode='{ensemble}'><timestep units='femtosecond'> 0.5 </timestep></dynamics>
    </motion>
    <ensemble><temperature units='kelvin'> 300 </temperature></ensemble>
  </system>
</simulation>
"""


def snapshot(values: np.ndarray, step: int, quantity: str, length: float, symbols: list[str]) -> str:
    header = f"# CELL(abcABC): {length:10.5f} {length:10.5f} {length:10.5f} 90.00000 90.00000 90.00000"
    cells = [cell for symbol, row in zip(symbols, values.tolist(), strict=True) for cell in (symbol, *row)]
    rows = ("%8s %12.5e %12.5e %12.5e\n" * len(values)) % tuple(cells)
    return f"{len(values)}\n{header}  Step: {step:11d}  Bead:       0 {quantity}  cell{{angstrom}}\n{rows}"


def properties(steps: np.ndarray, conserved: np.ndarray, potential: np.ndarray) -> str:
    names = ("step", "time{picosecond}", "conserved{electronvolt}", "potential{electronvolt}")
    text = "".join(f"# column {k:3d}     --> {name} : help\n" for k, name in enumerate(names, start=1))
    for step, e, v in zip(steps, conserved, potential, strict=True):
        text += f"  {step:16.8e} {step * 0.5e-3:16.8e} {e:16.8e} {v:16.8e}\n"
    return text


def write_run(
    folder: Path, trajectory: dict[str, list[np.ndarray]], stride: int, energies: np.ndarray, **kwargs
) -> Path:
    """Positions Å, velocities Å/fs, forces eV/Å, energies (n, 2): conserved and potential in eV."""
    folder.mkdir(parents=True)
    length, motion = kwargs.get("length", LENGTH), kwargs.get("motion", "dynamics")
    ensemble = kwargs.get("ensemble", "nvt")
    symbols = kwargs.get("symbols") or ["O", "H", "H"] * (len(next(iter(trajectory.values()))[0]) // 3)
    (folder / "input.xml").write_text(INPUT.format(stride=stride, motion=motion, ensemble=ensemble))
    kinds = {
        "pos": ("positions{angstrom}", 1.0),
        "vel": ("velocities{atomic_unit}", ATOMIC_TIME / BOHR),
        "frc": ("forces{ev/ang}", 1.0),
    }
    for name, snapshots in trajectory.items():
        quantity, factor = kinds[name]
        text = [
            snapshot(values * factor, k * stride, quantity, length, symbols)
            for k, values in enumerate(snapshots)
        ]
        (folder / f"simulation.{name}_0.xyz").write_text("".join(text))
    steps = np.arange(len(energies)) * stride
    (folder / "simulation.out").write_text(properties(steps, energies[:, 0], energies[:, 1]))
    return folder


def liquid(
    folder: Path, seed: int, n_snapshots: int = 800, diffusion: float = 0.3, spread: float = 0.25
) -> Path:
    """32 rigid waters, each a random walk and a random rotation per 100 fs; 300 K; 5 meV/molecule/ns of drift."""
    rng = np.random.default_rng(seed)
    n, stride = 32, 200
    grid = np.array(np.unravel_index(np.arange(64), (4, 4, 4))).T[rng.permutation(64)[:n]] * LENGTH / 4
    centers, turns = grid.astype(float), Rotation.random(n, rng=seed).as_matrix()
    step = np.sqrt(2 * diffusion * 0.1)
    masses = np.tile(MASSES, n)
    positions, velocities = [], []
    for _ in range(n_snapshots):
        positions.append((centers[:, None] + np.einsum("mxy,ky->mkx", turns, WATER)).reshape(-1, 3))
        velocity = rng.normal(size=(3 * n, 3)) * np.sqrt(KB * 300.0 / (DALTON * masses))[:, None]
        velocities.append(velocity - masses @ velocity / masses.sum())
        centers = centers + rng.normal(size=(n, 3)) * step
        turns = Rotation.from_rotvec(rng.normal(size=(n, 3)) * spread).as_matrix() @ turns
    nanoseconds = np.arange(n_snapshots) * 1e-4
    energies = np.stack([-1000 + 0.005 * n * nanoseconds, rng.normal(size=n_snapshots)], axis=1)
    return write_run(folder, {"pos": positions, "vel": velocities}, stride, energies)


def gas(folder: Path, seed: int, n_snapshots: int = 3000) -> Path:
    """One rigid water turning at random; forces with a torque of 10 meV about z."""
    rng = np.random.default_rng(seed)
    orientations = Rotation.random(n_snapshots, rng=seed).as_matrix()
    positions = np.einsum("txy,ky->tkx", orientations, WATER)
    velocities = rng.normal(size=(n_snapshots, 3, 3)) * np.sqrt(KB * 300.0 / (DALTON * MASSES))[:, None]
    velocities -= np.einsum("i,tix->tx", MASSES / MASSES.sum(), velocities)[:, None]
    arms = positions - np.einsum("i,tix->tx", MASSES / MASSES.sum(), positions)[:, None]
    # forces e_z x r_i scaled to a torque of 10 meV along z
    forces = np.cross([0.0, 0.0, 1.0], arms)
    forces -= forces.mean(axis=1, keepdims=True)
    torque = np.cross(arms, forces).sum(axis=1)[:, 2]
    forces *= (0.010 / torque)[:, None, None]
    energies = np.stack([np.zeros(n_snapshots), rng.normal(size=n_snapshots)], axis=1)
    trajectory = {"pos": list(positions), "vel": list(velocities), "frc": list(forces)}
    return write_run(folder, trajectory, 10, energies, length=30.0)


def precessing(folder: Path, rate: float, n_snapshots: int = 2000) -> Path:
    """One water spinning fast about a principal axis that goes round z at ``rate`` (rad/ps); constant energy."""
    centered = WATER - MASSES @ WATER / MASSES.sum()
    normal = np.cross(WATER[1], WATER[2])
    normal /= np.linalg.norm(normal)
    # the normal of the molecule tilted by 1 rad from z
    tilt = Rotation.align_vectors([[np.sin(1.0), 0.0, np.cos(1.0)]], [normal])[0]
    body, axis, stride = tilt.apply(centered), np.array([np.sin(1.0), 0.0, np.cos(1.0)]), 10

    def positions(times: np.ndarray) -> np.ndarray:
        spin = Rotation.from_rotvec(0.05 * times[:, None] * axis).as_matrix()
        turn = Rotation.from_rotvec(rate * 1e-3 * times[:, None] * [0.0, 0.0, 1.0]).as_matrix()
        return np.einsum("txy,tyz,kz->tkx", turn, spin, body)

    times, h = np.arange(n_snapshots) * stride * 0.5, 1e-3
    velocities = (positions(times + h) - positions(times - h)) / (2 * h)
    trajectory = {"pos": list(positions(times)), "vel": list(velocities)}
    return write_run(folder, trajectory, stride, np.zeros((n_snapshots, 2)), length=30.0, ensemble="nve")
