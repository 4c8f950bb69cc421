"""Which averages remove what a model depends on by design."""

from __future__ import annotations

import pytest

from ipi_driver.rotations import quadrature
from ipi_driver.rotations.transmission import physics_removed, removed_directions


@pytest.mark.parametrize(
    ("average", "removed"),
    [
        ("none", ()),
        ("i", ("0o", "1o")),
        ("T", ("1o", "1e", "2e")),
        ("D2", ("1o", "1e", "2e")),
        ("Ih", ("0o", "1o", "1e", "2e")),
        ("random", ("0o", "1o", "1e", "2e")),
        ("random-so3", ("1o", "1e", "2e")),
        ("ecse", ("0o", "1o", "1e", "2e")),
    ],
)
def test_what_an_average_removes(average: str, removed: tuple[str, ...]) -> None:
    """D2 keeps two of five functions of l = 2: a tensor does not pass it as it is."""
    assert removed_directions(("0o", "1o", "1e", "2e"), quadrature(average)) == removed


def test_one_line_for_people() -> None:
    text = physics_removed(("1o",), quadrature("Th"))
    assert text is not None
    assert "Th removes physics, not error" in text
    assert "(l = 1, odd: a vector)" in text
    assert physics_removed(("1e",), quadrature("i")) is None
    assert physics_removed((), quadrature("Ih")) is None
