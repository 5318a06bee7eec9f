"""Display matrices: the turn in one, and libav's filters that do what it asks for."""

from __future__ import annotations

import math

_ONE = 1 << 16  # of a display matrix


def turn_alone(matrix: tuple[int, ...]) -> tuple[int, ...]:
    """The nearest display matrix that turns and mirrors only; `matrix` itself where it differs from it by rounding."""
    a, b, c, d = (matrix[n] for n in (0, 1, 3, 4))
    mirror = -1 if a * d < b * c else 1
    angle = math.atan2(b - mirror * c, a + mirror * d)
    x, y = round(_ONE * math.cos(angle)), round(_ONE * math.sin(angle))
    turn = (x, y, 0, -mirror * y, mirror * x, 0)
    if all(abs(one - other) <= 4 for one, other in zip(turn, matrix)):
        return matrix
    return (*turn, 0, 0, 1 << 30)


def is_identity(matrix: tuple[int, ...]) -> bool:
    """Whether the matrix leaves the picture as it is."""
    return matrix == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)


def upright_filters(matrix: tuple[int, ...]) -> tuple[str, ...]:
    """libav's filters that do what a display matrix asks for; none where that is no turn by quarters."""
    a, b, c, d = (matrix[n] for n in (0, 1, 3, 4))
    if not a and not d and b and c:
        steps = (True, c < 0, b < 0)
    elif not b and not c and a and d:
        steps = (False, a < 0, d < 0)
    else:
        return ()
    return tuple(name for name, wanted in zip(("transpose", "hflip", "vflip"), steps) if wanted)
