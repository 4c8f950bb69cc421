"""Averages over a trajectory of unknown length: sums over pieces of it, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import ArrayLike

from ipi_driver.errors import UserError
from ipi_driver.observables.statistics import MINIMUM_BLOCKS, Estimate, blocked_ratio
from ipi_driver.structure import FloatArray

FEWEST_LAGS = 12
"""Lags of the shortest time correlation that is given."""


def _merged(pieces: list[FloatArray]) -> list[FloatArray]:
    """Sums of neighboring pairs."""
    return [a + b for a, b in zip(pieces[::2], pieces[1::2], strict=True)]


class Blocks:
    """Running sums over pieces of a trajectory of unknown length, in bounded memory.

    Pieces are merged in pairs whenever there are ``2 * n_pieces`` of them, so that between ``n_pieces`` and
    ``2 * n_pieces`` pieces of equal duration are kept, whatever the length of the trajectory.

    Parameters
    ----------
    n_pieces
        Fewest pieces kept of a long trajectory.
    """

    def __init__(self, n_pieces: int = 64) -> None:
        self.n_pieces = n_pieces
        self.per_piece = 1
        self.n_samples = 0
        self._numerators: list[FloatArray] = []
        self._denominators: list[FloatArray] = []
        self._filled = 0

    def add(self, numerator: ArrayLike, denominator: ArrayLike = 1.0) -> None:
        """Add one sample: an array (or a sum) and its weight (a number or an array of the same shape)."""
        above = np.array(numerator, dtype=np.float64)
        below = np.array(denominator, dtype=np.float64)
        if self._filled == 0:
            self._numerators.append(above)
            self._denominators.append(below)
        else:
            self._numerators[-1] += above
            self._denominators[-1] += below
        self._filled = (self._filled + 1) % self.per_piece
        self.n_samples += 1
        if self._filled == 0 and len(self._numerators) == 2 * self.n_pieces:
            self._numerators, self._denominators = _merged(self._numerators), _merged(self._denominators)
            self.per_piece *= 2

    def __len__(self) -> int:
        """Pieces that are kept, fewer than twice `n_pieces`."""
        return len(self._numerators)

    def weight(self) -> FloatArray:
        """Sum of the denominators of everything added so far."""
        return np.asarray(sum(self._denominators), dtype=np.float64)

    def mean(self) -> FloatArray:
        """Average over everything added so far."""
        if not self._numerators:
            raise UserError("no sample was added: the trajectory holds no snapshot for this observable")
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(sum(self._numerators) / sum(self._denominators))

    def estimate(
        self,
        spacing: float,
        minimum_blocks: int = MINIMUM_BLOCKS,
        leading: int | None = None,
        short_blocks: bool = False,
        transform: Callable[[FloatArray], FloatArray] | None = None,
        least_correlation_time: float = 0.0,
    ) -> Estimate:
        """The average with its error.

        Parameters
        ----------
        spacing
            Time between samples, fs.
        minimum_blocks
            Fewest blocks that are long enough.
        leading
            Entries of each sample that are used, from the first; None uses all.
        short_blocks
            See `blocked_ratio`.
        transform
            Linear function of numerators and of denominators that are arrays, before the ratio is taken, as a sum over
            a kernel; None: none.
        least_correlation_time
            fs, see `blocked_ratio`.

        Raises
        ------
        UserError
            If the series is too short for ``minimum_blocks`` blocks.
        """
        if not self._numerators:
            raise UserError("no sample was added: the trajectory holds no snapshot for this observable")
        above, below = list(self._numerators), list(self._denominators)
        if self._filled and len(above) > 1:  # the last piece is shorter: it joins the one before
            tail_above, tail_below = above.pop(), below.pop()
            above[-1] = above[-1] + tail_above
            below[-1] = below[-1] + tail_below
        duration = self.n_samples * spacing / len(above)
        if leading is not None:
            above = [piece[:leading] for piece in above]
            below = [piece[:leading] if piece.ndim else piece for piece in below]
        if transform is not None:
            above = [transform(piece) for piece in above]
            below = [transform(piece) if piece.ndim else piece for piece in below]
        return blocked_ratio(
            np.array(above), np.array(below), duration, minimum_blocks, short_blocks, least_correlation_time
        )

    def resolved_lags(self, spacing: float) -> Estimate:
        """As `estimate` of a time correlation, up to the longest lag that allows block averages.

        Samples at long lags stay correlated for about the lag, so that a run can be long enough for the short lags
        alone. At least `FEWEST_LAGS` are kept. Where a slow mode leaves none, short blocks will do.

        Raises
        ------
        UserError
            If the series is too short for those as well; the message is that of all lags.
        """
        try:
            return self.estimate(spacing)
        except UserError:
            if not self._numerators:
                raise
            lengths = [len(self._numerators[0])]
            while (fewer := int(0.8 * lengths[-1])) >= FEWEST_LAGS:
                lengths.append(fewer)
            with_long_blocks = [(n_lags, False) for n_lags in lengths[1:]]
            with_short_blocks = [(n_lags, True) for n_lags in lengths if n_lags >= FEWEST_LAGS]
            for n_lags, short_blocks in with_long_blocks + with_short_blocks:
                with suppress(UserError):
                    return self.estimate(spacing, leading=n_lags, short_blocks=short_blocks)
            raise
