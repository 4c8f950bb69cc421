"""`analyze`: observables of runs, from Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipi_driver.analysis.dispatch import (
    StartProgress,
    analyze_folders,
    check_same_systems,
    make_labels_unique,
)
from ipi_driver.analysis.ensembles import join
from ipi_driver.analysis.result import Analysis, Options
from ipi_driver.analysis.run_statistics import systems_of
from ipi_driver.errors import UserError
from ipi_driver.potentials import load_potential
from ipi_driver.report.tables import formatted
from ipi_driver.rotations import quadratures
from ipi_driver.runs.farm import ensembles_of, is_farm

if TYPE_CHECKING:  # it loads scipy
    from ipi_driver.analysis.compare import Comparison


@dataclass(frozen=True)
class Analyses(Sequence[Analysis]):
    """The analyses of several runs, in the order of the folders, and after them the ensembles of farms.

    Printing it gives every number with its standard error and unit, and whether the runs agree.
    """

    analyses: tuple[Analysis, ...]

    def __getitem__(self, index: Any) -> Any:
        return self.analyses[index]

    def __len__(self) -> int:
        return len(self.analyses)

    def __iter__(self) -> Iterator[Analysis]:
        return iter(self.analyses)

    def __repr__(self) -> str:
        lines = []
        for analysis in self.analyses:
            lines.append(f"{analysis.label} ({analysis.kind}: {analysis.system})")
            lines += [
                f"  {scalar.label}: {formatted(scalar.value, scalar.error)} {scalar.unit}".rstrip()
                for scalar in analysis.scalars.values()
            ]
        for runs, rows in self.comparisons.items():
            lines += [f"{runs}: do the runs agree?", *(f"  {row.label}: {row.verdict}" for row in rows)]
        return "\n".join(lines)

    @cached_property
    def comparisons(self) -> dict[str, list[Comparison]]:
        """Verdicts on runs of one kind, ensemble and temperature, as ``ipi-driver analyze`` prints them."""
        from ipi_driver.report.comparison import comparisons_of

        return comparisons_of(self.analyses)

    def write_report(self, folder: str | Path, with_viewer: bool = True) -> Path:
        """Write tables, figures and one HTML page into ``folder``; returns the page."""
        from ipi_driver.report.writer import write_report

        return write_report(
            list(self.analyses), Path(folder), "ipi_driver.analyze", with_viewer, comparisons=self.comparisons
        )


def analyze(runs: str | Path | Sequence[str | Path], **options: Any) -> Analyses:
    """Observables of one or several run folders, as ``ipi-driver analyze`` computes them.

    Parameters
    ----------
    runs
        Run folders, folders of relaxations, and farms (``ipi-driver submit``), whose members of one average are joined.
    **options
        Fields of `ipi_driver.analysis.result.Options`: ``skip`` (ps), ``molecule``, ``vector``, ``longest_lag`` (ps),
        ``model`` (what `load_potential` takes, or a potential), ``averages`` (names)

    Raises
    ------
    UserError
        If a folder holds no run, or an option is unknown.

    Examples
    --------
    >>> ipi_driver.analyze("runs/gas-nve", skip=0.5)  # doctest: +SKIP
    raw (gas: H2O)
      temperature: 301 ± 4 K
    """
    unknown = sorted(set(options) - set(Options.__dataclass_fields__))
    if unknown:
        known = ", ".join(Options.__dataclass_fields__)
        raise UserError(f"`analyze` has no option {unknown[0]!r}; it has: {known}")
    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    if isinstance(model := options.get("model"), str | Path):
        options["model"] = load_potential(str(model))
    for name in ("averages", "systems"):  # one may be given by itself
        if isinstance(options.get(name), str):
            options[name] = (options[name],)
    if "averages" in options:
        options["averages"] = quadratures(options["averages"])
    found = analyze_all([Path(folder) for folder in folders], Options(**options))
    return Analyses(tuple(found))


def analyze_all(
    folders: Sequence[Path], options: Options, start: StartProgress = lambda text, total: lambda n: None
) -> list[Analysis]:
    """Runs, folders of relaxations, and farms: of these one analysis for each average, and for each of several systems.

    Raises
    ------
    UserError
        If a folder is none of these, or runs of one kind are of different systems.
    """
    alone = [folder for folder in folders if not is_farm(folder)]
    analyses = analyze_folders(alone, options, start) if alone else []
    for farm in (folder for folder in folders if is_farm(folder)):
        for name, runs in ensembles_of(farm).items():
            analyses += _ensembles(name, runs, options, start)
    make_labels_unique(analyses)  # of several farms, or farms beside runs
    check_same_systems(analyses)
    return analyses


def _ensembles(name: str, runs: Sequence[Path], options: Options, start: StartProgress) -> list[Analysis]:
    """The members of one average, joined; of several systems, as in replica exchange, those of each prefix."""
    systems = options.systems or systems_of(runs[0])
    if len(systems) == 1:
        return join({name: analyze_folders(runs, options, start)})
    return join(
        {
            f"{name}:{system}": analyze_folders(runs, replace(options, systems=(system,)), start)
            for system in systems
        }
    )
