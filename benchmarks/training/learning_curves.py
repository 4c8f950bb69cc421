"""Force errors against the number of labelled structures, for several ways to deal with symmetry, at equal time.

    python benchmarks/training/learning_curves.py run DATA --way augmented --labels 136 --minutes 6 --output OUT
    python benchmarks/training/learning_curves.py table OUT          # table and figure of what is there

DATA is a folder with structures.extxyz and more.extxyz (bulk water; also packed as .gz) and, for the way `denoised`,
slabs, bulk-pimd and monolayer, whose structures are taken without labels. Structures 0 to 489 of the first two are
ordered as in `models/pet-water-s2/order.txt`: its bulk validation and test parts, which have no relatives in the
training part, serve every run; labels are the first of the training part in an order of the seed. Every run has one
thread and the time given, in which the learning rate falls to zero; pre-training counts.

Ways, all with a pair baseline: `plain` PET as it is, `augmented` in random orientations, `penalty` with the symmetry
penalty as well, `denoised` a third of the time to undo displacements first, then `augmented`; `e3nn` equivariant. And
`augmented` with one setting changed: `adamw` (learning rate 0.001) for muon, `no-warmup`, `no-average` of the weights,
`no-pairs` in the baseline, `energy-1` or `energy-10` times forces in the loss instead of 0.2, `rotation-gradient` as a
penalty.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ipi_driver.training.batch import make_sample
from ipi_driver.training.config import TrainConfig
from ipi_driver.training.data import read_dataset
from ipi_driver.training.metrics import errors_by_group, symmetry_error
from ipi_driver.training.setup import build_trainer

ROOT = Path(__file__).resolve().parents[2]
PET: dict[str, Any] = {
    "cutoff": 3.5,
    "cutoff_width": 0.5,
    "d_model": 64,
    "n_heads": 4,
    "d_feedforward": 128,
    "d_head": 64,
    "n_gnn_layers": 2,
    "n_attention_layers": 1,
    "norm": "pre",
    "compress": "linear",
    "radial_basis": 20,
}
ANGLES = {"angular_basis": 4, "angular_order": 3}
MUON = {"optimizer": "muon", "learning_rate": 0.002, "weight_decay": 0.02, "loss": {"energy": 0.2}}
E3NN: dict[str, Any] = {
    "architecture": {
        "kind": "e3nn",
        "cutoff": 3.5,
        "l_max": 2,
        "channels": 16,
        "product_channels": 8,
        "d_radial": 16,
        "average_neighbors": 18.0,
    },
    "augmentation": "none",
    "loss": {"energy": 0.2},
    "learning_rate": 0.005,
    "weight_decay": 0.0,
    "ema": 0.99,
}
WAYS = (
    "plain", "augmented", "penalty", "denoised", "angles", "invariant", "e3nn", "adamw", "no-warmup", "no-average",
    "no-pairs", "energy-1", "energy-10", "rotation-gradient",
)  # fmt: skip
PRETRAINING = 1 / 3
"""Of the time."""
N_BULK = 490


def settings_of(way: str, folder: Path, hours: float) -> dict[str, Any]:
    """Settings of the training by the way that symmetry is dealt with."""
    names = ("slabs", "bulk-pimd", "monolayer") if way == "denoised" else ()
    unlabelled = [find(folder, name) for name in names]
    denoise = {"files": unlabelled, "epochs": 1000, "hours": PRETRAINING * hours}
    ways = {
        "plain": MUON | {"architecture": PET, "augmentation": "none"},
        "augmented": MUON | {"architecture": PET},
        "penalty": MUON
        | {"architecture": PET, "loss": {"energy": 0.2, "symmetry": 1.0, "symmetry_every": 4}},
        "denoised": MUON | {"architecture": PET, "pretrain": denoise, "max_hours": (1 - PRETRAINING) * hours},
        "angles": MUON | {"architecture": PET | ANGLES},
        "invariant": MUON | {"architecture": PET | ANGLES | {"cartesian": False}, "augmentation": "none"},
        "e3nn": E3NN,
        "adamw": MUON | {"architecture": PET, "optimizer": "adamw", "learning_rate": 0.001},
        "no-warmup": MUON | {"architecture": PET, "warmup": 0.0},
        "no-average": MUON | {"architecture": PET, "ema": 0.0},
        "no-pairs": MUON | {"architecture": PET, "baseline": {"pair": False}},
        "energy-1": MUON | {"architecture": PET, "loss": {"energy": 1.0}},
        "energy-10": MUON | {"architecture": PET, "loss": {"energy": 10.0}},
        "rotation-gradient": MUON | {"architecture": PET, "loss": {"energy": 0.2, "rotation_gradient": 30.0}},
    }
    return ways[way]


def find(folder: Path, name: str) -> Path:
    """A data file, packed or not."""
    for path in (folder / f"{name}.extxyz", folder / f"{name}.extxyz.gz"):
        if path.is_file():
            return path
    raise SystemExit(f"no {name}.extxyz in {folder}: expected the data named at the top of this file")


def run(args: argparse.Namespace) -> None:
    """One training; writes its numbers to a file."""
    began, hours = time.perf_counter(), args.minutes / 60.0
    torch.set_num_threads(1)
    order = np.loadtxt(ROOT / "models" / "pet-water-s2" / "order.txt", dtype=int)
    train, validation, test = (part[part < N_BULK] for part in (order[:-79], order[-79:-52], order[-52:]))
    labels = len(train) if args.labels == 0 else args.labels
    chosen = np.random.default_rng(args.seed).permutation(train)[:labels]
    files = [find(args.data, name) for name in ("structures", "more")]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        np.savetxt(place / "order.txt", np.concatenate([chosen, validation]), fmt="%d")
        data = {
            "files": files,
            "split_file": place / "order.txt",
            "train": labels,
            "validation": len(validation) - 1,
            "test": 1,
        }
        common = {"data": data, "output": place / "run", "epochs": 100000, "final_learning_rate": 0.0}
        common |= {
            "max_hours": hours,
            "seed": args.seed,
            "evaluate_every": max(1, 136 // labels),
            "threads": 1,
        }
        common |= {"batch_size": args.batch_size, "device": args.device}
        config = TrainConfig.model_validate(
            common | {"warmup": 0.05} | settings_of(args.way, args.data, hours)
        )
        trainer = build_trainer(config)
        prepared = time.perf_counter() - began
        trainer.run(quiet=True)
    structures = read_dataset(files)
    species, cutoff = trainer.network.config.species, trainer.network.config.cutoff
    trainer.network.cpu()
    samples = [make_sample(structures[i], species, cutoff, trainer.baseline) for i in test]
    trainer.network.load_state_dict(trainer.average.weights)
    errors, _ = errors_by_group(trainer.network, samples, trainer.offsets)
    result = {
        "way": args.way,
        "labels": labels,
        "seed": args.seed,
        "minutes": args.minutes,
        "batch_size": args.batch_size,
        "device": args.device,
        "preparation_s": round(prepared, 1),
        "steps": trainer.step,
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "force_mae": 1e3 * errors.force_mae,
        "force_rmse": 1e3 * errors.force_rmse,
        "energy_mae_per_molecule": 3e3 * errors.energy_mae_per_atom,
        "symmetry_error": 1e3 * symmetry_error(trainer.network, samples[:10], 0),
    }
    args.output.mkdir(parents=True, exist_ok=True)
    name = f"{args.way}-{labels}-{args.seed}-{args.minutes:g}min-{args.batch_size}-{args.device.replace(':', '')}"
    path = args.output / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result), flush=True)


def table(args: argparse.Namespace) -> None:
    """Means over the seeds with their standard errors, as a table and a figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    runs = [json.loads(path.read_text()) for path in sorted(args.output.glob("*-*-*.json"))]
    sizes = sorted({run["labels"] for run in runs})
    settings = sorted({_setting(run) for run in runs})
    head = ["way", *(["time"] if len(settings) > 1 else []), *map(str, sizes), "symmetry error", "steps"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    for setting, style in zip(settings, cycle(("-", "--", ":", "-."))):
        for color, way in enumerate(WAYS):
            by_size: dict[int, list[dict[str, Any]]] = defaultdict(list)
            for run in runs:
                if (run["way"], _setting(run)) == (way, setting):
                    by_size[run["labels"]].append(run)
            if not by_size:
                continue
            cells = [_cell([run["force_mae"] for run in by_size.get(n, [])]) for n in sizes]
            cells.append(_cell([run["symmetry_error"] for run in by_size[max(by_size)]]))
            cells.append(f"{np.mean([run['steps'] for group in by_size.values() for run in group]):.0f}")
            what = _described(setting)
            print("| " + " | ".join([way, *([what] if len(settings) > 1 else []), *cells]) + " |")
            x = sorted(by_size)
            label = f"{way}, {what}" if len(settings) > 1 else way
            for axis, key in ((left, "force_mae"), (right, "symmetry_error")):
                if axis is right and way in ("invariant", "e3nn"):
                    continue  # rounding
                y = [np.mean([run[key] for run in by_size[n]]) for n in x]
                error = [_error([run[key] for run in by_size[n]]) for n in x]
                look = {"linestyle": style, "color": f"C{color}", "marker": "o", "markersize": 4.5}
                look["markerfacecolor"] = f"C{color}" if setting == settings[0] else "white"
                axis.errorbar(x, y, error if any(error) else None, capsize=2, label=label, **look)
    for axis, title in ((left, "force error, held out (meV/Å)"), (right, "symmetry error (meV/Å)")):
        axis.set(xscale="log", yscale="log", xlabel="labelled structures", ylabel=title)
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_minor_locator(LogLocator(subs=(1.2, 1.5, 2, 3, 4, 6, 8) if axis is left else (2, 5)))
        for set_formatter in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            set_formatter(FormatStrFormatter("%g"))
    if len(sizes) == 1:
        return  # no curve
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(args.output / "learning-curves.png", dpi=160)


def _setting(run: dict[str, Any]) -> tuple[float, int, str]:
    """Minutes, structures a step, device: what the runs of a curve share."""
    return run["minutes"], run.get("batch_size", 1), run.get("device", "cpu")


def _described(setting: tuple[float, int, str]) -> str:
    minutes, batch_size, device = setting
    more = f", {batch_size} a step" if batch_size > 1 else ""
    return f"{minutes:g} min{more}" + ("" if device == "cpu" else f", {device}")


def _error(values: list[float]) -> float:
    """Standard error of the mean; 0 for a single value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    text = f"{np.mean(values):.3g}"
    if len(values) > 1:
        text += f" ± {_error(values):.2g}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("run", help="one training")
    one.add_argument("data", type=Path)
    one.add_argument("--way", required=True, choices=WAYS)
    one.add_argument("--labels", type=int, default=136, help="0: all that are not held out")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--minutes", type=float, default=6.0)
    one.add_argument("--batch-size", type=int, default=1, help="structures a step (default 1)")
    one.add_argument("--device", default="cpu", help="of the training (default cpu)")
    one.add_argument("--output", type=Path, required=True, help="folder of the results")
    one.set_defaults(function=run)
    all_of_them = verbs.add_parser("table", help="of all results in a folder")
    all_of_them.add_argument("output", type=Path)
    all_of_them.set_defaults(function=table)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
