"""Pair correlations of an ideal gas, of a crystal, of known dipoles, and against ASE."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry.rdf import get_rdf

from ipi_driver.errors import UserError
from ipi_driver.observables.molecules import largest_radius
from ipi_driver.observables.pairs import DipoleCorrelation, PairDistances

TRICLINIC = np.array([[14.0, 0.0, 0.0], [3.5, 12.0, 0.0], [-2.5, 3.0, 13.0]])
CUBIC = np.eye(3) * 12.0


@pytest.mark.parametrize("cell", [CUBIC, TRICLINIC], ids=["cubic", "triclinic"])
def test_ideal_gas_is_one(cell):
    rng = np.random.default_rng(0)
    numbers = np.repeat([8, 1], [40, 80])
    pairs = PairDistances(numbers, [("O", "O"), ("O", "H"), ("H", "H")], largest_radius(cell), n_bins=40)
    for _ in range(300):
        pairs.add(rng.uniform(-1, 2, size=(120, 3)) @ cell, cell)
    for pair, curve in pairs.result(10.0).items():
        pulls = (curve.estimate.value[3:] - 1) / curve.estimate.error[3:]
        assert np.sqrt((pulls**2).mean()) == pytest.approx(1.0, abs=0.35)
        # independent points: counts in a shell are Poisson distributed
        n_pairs = {("O", "O"): 40 * 39 / 2, ("O", "H"): 40 * 80, ("H", "H"): 80 * 79 / 2}[pair]
        edges = np.linspace(0, largest_radius(cell), 41)
        counts = 300 * n_pairs * 4 / 3 * np.pi * np.diff(edges**3) / np.linalg.det(cell)
        ratio = curve.estimate.error[3:] * np.sqrt(counts[3:])
        assert np.sqrt((ratio**2).mean()) == pytest.approx(1.0, abs=0.2)


def test_number_of_neighbors_in_a_crystal():
    crystal = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(4)
    pairs = PairDistances(crystal.numbers, [("Cu", "Cu")], 7.0, n_bins=350)
    for shift in range(20):
        pairs.add(crystal.positions + 0.37 * shift, np.array(crystal.cell))
    curve = pairs.result(1.0)[("Cu", "Cu")]
    g, dr = curve.estimate.value, 0.02
    edges = np.arange(351) * dr
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    density = (len(crystal) - 1) / crystal.get_volume()
    for distance, n in [(3.6 / np.sqrt(2), 12), (3.6, 6), (3.6 * np.sqrt(1.5), 24), (3.6 * np.sqrt(2), 12)]:
        near = np.abs(curve.r - distance) < 0.05
        assert (g * shells)[near].sum() * density == pytest.approx(n)
    assert g[curve.r < 2.4].max() == 0


@pytest.mark.parametrize("cell", [CUBIC, TRICLINIC], ids=["cubic", "triclinic"])
def test_agrees_with_ase(cell):
    rng = np.random.default_rng(5)
    numbers = np.repeat([8, 1], [25, 50])
    r_max = 0.95 * largest_radius(cell)
    pairs = PairDistances(numbers, [("O", "O"), ("O", "H"), ("H", "H")], r_max, n_bins=30)
    snapshots = [rng.uniform(size=(75, 3)) @ cell for _ in range(12)]
    theirs = {pair: [] for pair in pairs.pairs}
    for positions in snapshots:
        pairs.add(positions, cell)
        atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=True)
        for pair in theirs:
            z = tuple({"O": 8, "H": 1}[s] for s in pair)
            theirs[pair].append(get_rdf(atoms, r_max, 30, elements=z, no_dists=True))
    for pair, curve in pairs.result(1.0).items():
        n = {"O": 25, "H": 50}[pair[1]]
        # ASE counts an atom among its own neighbors of the same element: N instead of N - 1
        factor = n / (n - 1) if pair[0] == pair[1] else 1.0
        np.testing.assert_allclose(curve.estimate.value, np.mean(theirs[pair], axis=0) * factor, rtol=1e-9)


def test_pairs_within_a_molecule_can_be_left_out():
    rng = np.random.default_rng(1)
    centers = rng.uniform(size=(30, 3)) @ CUBIC
    numbers, labels = np.tile([8, 1], 30), np.repeat(np.arange(30), 2)
    positions = np.stack([centers, centers + np.array([0.96, 0, 0])], axis=1).reshape(-1, 3)
    with_bond = PairDistances(numbers, [("O", "H")], 6.0, 60)
    without = PairDistances(numbers, [("O", "H")], 6.0, 60, labels)
    for _ in range(12):
        with_bond.add(positions, CUBIC)
        without.add(positions, CUBIC)
    difference = (
        with_bond.result(1.0)[("O", "H")].estimate.value - without.result(1.0)[("O", "H")].estimate.value
    )
    edges = np.arange(61) * 0.1
    counts = difference * 900 / 12**3 * 4 / 3 * np.pi * np.diff(edges**3)
    np.testing.assert_allclose(counts, np.where(np.arange(60) == 9, 30.0, 0.0), atol=1e-9)


def test_chunks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(3)
    positions = rng.uniform(size=(90, 3)) @ TRICLINIC
    results = []
    for chunk in (200_000, 700):
        monkeypatch.setattr("ipi_driver.observables.pairs._CHUNK", chunk)
        pairs = PairDistances(np.repeat([8, 1], [30, 60]), [("O", "H"), ("H", "H")], 5.0, 50)
        dipoles = DipoleCorrelation(5.0, 50)
        for _ in range(12):
            pairs.add(positions, TRICLINIC)
            dipoles.add(positions[:60], np.roll(positions, 1, axis=1)[:60] / 10, TRICLINIC)
        results.append(
            [c.estimate.value for c in pairs.result(1.0).values()]
            + [c.estimate.value for c in dipoles.result(1.0)]
        )
    for one, many in zip(*results, strict=True):
        np.testing.assert_allclose(one, many, rtol=1e-12)


def test_dipoles_all_parallel():
    """u along z everywhere, pairs isotropic: longitudinal <cos²> = 1/3, transverse 2/3."""
    rng = np.random.default_rng(0)
    dipoles = DipoleCorrelation(6.0, n_bins=12)
    up = np.tile([0.0, 0.0, 1.0], (150, 1))
    for _ in range(100):
        dipoles.add(rng.uniform(size=(150, 3)) @ CUBIC, up, CUBIC)
    longitudinal, transverse = dipoles.result(1.0)
    for curve, expected in ((longitudinal, 1 / 3), (transverse, 2 / 3)):
        pulls = (curve.estimate.value[2:] - expected) / curve.estimate.error[2:]
        assert np.sqrt((pulls**2).mean()) < 1.6
    total = longitudinal.estimate.value + transverse.estimate.value
    np.testing.assert_allclose(total[2:], 1.0, atol=1e-12)


def test_dipoles_of_one_pair():
    u = np.array([[0.6, 0.8, 0.0], [0.28, 0.0, 0.96]])
    centers = np.array([[11.5, 1.0, 1.0], [1.5, 1.0, 1.0]])  # 2 Å apart along x, across the boundary
    dipoles = DipoleCorrelation(6.0, n_bins=24)
    for _ in range(12):
        dipoles.add(centers, u, CUBIC)
    longitudinal, transverse = dipoles.result(1.0)
    place = int(2.0 / 0.25)
    assert longitudinal.estimate.value[place] == pytest.approx(0.6 * 0.28)
    assert transverse.estimate.value[place] == pytest.approx(0.0)
    assert np.isnan(np.delete(longitudinal.estimate.value, place)).all()


def test_shells_end_where_the_smallest_cell_does():
    """A cell that breathes: the same shells as without those that reach beyond half its smallest height."""
    rng = np.random.default_rng(7)
    numbers = np.full(60, 8)
    reaching, within = (PairDistances(numbers, [("O", "O")], r, n) for r, n in ((6.0, 60), (5.4, 54)))
    dipoles = DipoleCorrelation(6.0, 60)
    for k in range(40):
        cell = CUBIC * (1.0, 0.95, 0.9, 0.95)[k % 4]
        positions = rng.uniform(size=(60, 3)) @ cell
        for pairs in (reaching, within):
            pairs.add(positions, cell)
        dipoles.add(positions, np.tile([0.0, 0.0, 1.0], (60, 1)), cell)
    (found,), (expected,) = reaching.result(1.0).values(), within.result(1.0).values()
    np.testing.assert_allclose(found.r, expected.r)
    np.testing.assert_allclose(found.estimate.value, expected.estimate.value)
    assert dipoles.result(1.0)[0].r[-1] == pytest.approx(5.35)
    flat = PairDistances(numbers, [("O", "O")], 6.0, 60)
    flat.add(positions, np.diag([0.1, 20.0, 20.0]))
    with pytest.raises(UserError, match=r"too flat for shells of 0\.1 Å"):
        flat.result(1.0)


def test_what_has_no_pairs_is_refused():
    pairs = PairDistances(np.array([8, 8]), [("O", "O")], 5.0)
    with pytest.raises(UserError, match="need a periodic cell"):
        pairs.add(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(UserError, match="holds no N"):
        PairDistances(np.array([8, 8]), [("O", "N")], 5.0)


def test_dipole_correlations_are_sums_over_pairs():
    """Both curves of random dipoles, by a loop over all pairs and their 27 images."""
    rng = np.random.default_rng(11)
    centers, u = rng.uniform(size=(20, 3)) @ TRICLINIC, rng.normal(size=(20, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    dipoles = DipoleCorrelation(5.0, n_bins=5)
    for _ in range(12):
        dipoles.add(centers, u, TRICLINIC)
    sums = np.zeros((3, 5))
    images = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T @ TRICLINIC
    for i in range(20):
        for j in range(i):
            vectors = centers[j] - centers[i] + images
            vector = vectors[np.linalg.norm(vectors, axis=1).argmin()]
            r = np.linalg.norm(vector)
            if r < 5.0:
                along = (u[i] @ vector) * (u[j] @ vector) / r**2
                sums[:, int(r)] += 1.0, along, u[i] @ u[j] - along
    for curve, expected in zip(dipoles.result(1.0), sums[1:] / sums[0], strict=True):
        np.testing.assert_allclose(curve.estimate.value, expected, atol=1e-12)


def test_kernel_estimates_are_sums_of_gaussians():
    """g(r) = sum over pairs of a normalized Gaussian over 4 pi r² times the density of pairs (published definition)."""
    rng = np.random.default_rng(12)
    bandwidth, n_bins, r_max = 0.1, 600, 6.0
    pairs = PairDistances(np.full(40, 8), [("O", "O")], r_max, n_bins, bandwidth=bandwidth)
    dipoles = DipoleCorrelation(r_max, n_bins, bandwidth)
    distances, along = [], []
    for _ in range(20):
        positions, u = rng.uniform(size=(40, 3)) * 12.0, rng.normal(size=(40, 3))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        pairs.add(positions, CUBIC)
        dipoles.add(positions, u, CUBIC)
        i, j = np.triu_indices(40, 1)
        vectors = positions[j] - positions[i]
        vectors -= 12.0 * np.rint(vectors / 12.0)
        r = np.linalg.norm(vectors, axis=1)
        distances.append(r)
        along.append((u[i] * vectors).sum(axis=1) * (u[j] * vectors).sum(axis=1) / r**2)
    r, values = np.concatenate(distances), np.concatenate(along)
    (curve,) = pairs.result(1.0).values()
    inner = (curve.r > 2.0) & (
        curve.r < 5.5
    )  # beyond, the published sum goes on over pairs further apart than r_max
    weights = np.exp(-0.5 * ((curve.r[inner, None] - r) / bandwidth) ** 2)
    density = 20 * 40 * 39 / 2 / 12.0**3 * np.sqrt(2 * np.pi) * bandwidth
    g = weights.sum(axis=1) / (4 * np.pi * curve.r[inner] ** 2 * density)
    # the published one divides by 4 pi r², ours by its kernel average 4 pi (r² + h²)
    ours = curve.estimate.value[inner] * (1.0 + (bandwidth / curve.r[inner]) ** 2)
    np.testing.assert_allclose(ours, g, rtol=2.5e-3)
    c = (weights @ values) / weights.sum(axis=1)
    np.testing.assert_allclose(dipoles.result(1.0)[0].estimate.value[inner], c, atol=1e-3)


def test_a_kernel_lowers_a_narrow_maximum_and_keeps_a_flat_function():
    """One distance, whose shell is a Gaussian of the bandwidth afterwards; and an ideal gas, which stays 1."""
    positions = np.array([[0.0, 0.0, 0.0], [2.795, 0.0, 0.0]])
    histogram, smooth = (
        PairDistances(np.full(2, 8), [("O", "O")], 5.4, 540, bandwidth=h) for h in (0.0, 0.1)
    )
    for _ in range(12):
        histogram.add(positions, CUBIC)
        smooth.add(positions, CUBIC)
    (sharp,), (found,) = histogram.result(1.0).values(), smooth.result(1.0).values()
    top = np.nanmax(sharp.estimate.value) * 0.01 / (0.1 * np.sqrt(2 * np.pi))
    assert np.nanmax(found.estimate.value) == pytest.approx(top, rel=5e-3)
    rng = np.random.default_rng(4)
    gas = PairDistances(np.full(60, 8), [("O", "O")], 6.0, 120, bandwidth=0.1)
    for _ in range(400):
        gas.add(rng.uniform(size=(60, 3)) * 12.0, CUBIC)
    (flat,) = gas.result(1.0).values()
    pulls = (flat.estimate.value[20:] - 1.0) / flat.estimate.error[20:]
    assert np.abs(pulls[-5:]).max() < 4.5  # also at the last shell
    assert np.sqrt((pulls**2).mean()) == pytest.approx(1.0, abs=0.4)


def test_agrees_with_mdanalysis():
    """g(r) of an independent code, where it is installed."""
    mda = pytest.importorskip("MDAnalysis")
    rdf = pytest.importorskip("MDAnalysis.analysis.rdf")
    rng = np.random.default_rng(6)
    frames = rng.uniform(size=(12, 50, 3)) * 12.0
    universe = mda.Universe.empty(50, trajectory=True)
    universe.load_new(frames.astype(np.float32), dimensions=np.array([12, 12, 12, 90, 90, 90.0]))
    first, second = universe.atoms[:20], universe.atoms[20:]
    theirs = rdf.InterRDF(first, second, nbins=50, range=(0.0, 5.0)).run()
    pairs = PairDistances(np.repeat([8, 1], [20, 30]), [("O", "H")], 5.0, 50)
    for positions in frames:
        pairs.add(positions.astype(np.float32).astype(float), CUBIC)
    (curve,) = pairs.result(1.0).values()
    np.testing.assert_allclose(curve.estimate.value, theirs.results.rdf, atol=1e-6)
