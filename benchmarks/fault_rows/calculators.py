"""The calculators of the rows: water as springs, which goes wrong at a given call in the way named."""

CALCULATORS = '''
import os, sys, time
import numpy as np
from ase.calculators.calculator import Calculator
class Water(Calculator):
    """Springs between all atoms, one of them along z; at its call number `at` it does what `how` says."""
    implemented_properties = ["energy", "forces"]
    def __init__(self, at=10**9, how="", delay=0.0):
        super().__init__()
        self.at, self.how, self.delay, self.calls = at, how, float(delay), 0
    def calculate(self, atoms, properties, changes):
        super().calculate(atoms, properties, changes)
        self.calls += 1
        time.sleep(self.delay)
        x, energy, forces = atoms.positions, 0.0, np.zeros((3, 3))
        for i, j, length, k in ((0, 1, 0.957, 40.0), (0, 2, 0.957, 40.0), (1, 2, 1.51, 10.0)):
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            f = k * (r - length) * d / r + 0.2 * d * [0, 0, 1]
            energy += 0.5 * k * (r - length) ** 2 + 0.1 * d[2] ** 2
            forces[i] += f
            forces[j] -= f
        if self.goes_wrong():
            energy, forces = self.act(energy, forces)
        self.results = {"energy": energy, "forces": forces}
    def goes_wrong(self):
        """At the call number `at`, and in every process again at that configuration."""
        if self.calls == self.at and not os.path.exists("bad.npy"):
            np.save("bad.npy", self.atoms.positions)
        return os.path.exists("bad.npy") and np.allclose(np.load("bad.npy"), self.atoms.positions, atol=1e-7)
    def act(self, energy, forces):
        first, how = not os.path.exists("once"), self.how.split("-")
        open("once", "w").close()
        if "raise" in how:
            raise RuntimeError("the model has no answer\\nand a second line")
        if "cuda" in how and first:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if "memory" in how:
            raise MemoryError
        if "recursion" in how:
            raise RecursionError("maximum recursion depth exceeded")
        if "crash" in how or ("segfault" in how and first):
            os.kill(os.getpid(), 11)
        if "oom" in how and first:
            os.kill(os.getpid(), 9)
        if "notfinite" in how:
            energy = float("nan")
        if "overflow" in how:
            forces = forces * 1e308 * 1e10
        if "shape" in how:
            forces = np.zeros((2, 3))
        if "scalar" in how:
            forces = 1.0
        if "text" in how:
            forces = "forces"
        if "nothing" in how:
            forces = None
        if "complex" in how:
            forces = forces * (1 + 0.1j)
        if "exit" in how:
            sys.exit(3)
        if "interrupt" in how:
            raise KeyboardInterrupt
        if "leave" in how:
            os._exit(0)
        if "fork" in how and first:
            os.fork()
        if "child" in how and first and os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        if "slow" in how:
            time.sleep(3)
        if "talk" in how:
            print("x" * 600_000)
        if "elsewhere" in how:
            os.chdir("/")
            self.atoms.positions += 1.0
        if "close" in how:
            os.closerange(3, 200)
        return energy, forces
class Echo(Water):
    """Keeps the word that it is given."""
def make():
    return Water()
'''
