from typing import Final

FIELDS_MAX: Final[int]

def quickly_made[T](cls: type[T]) -> type[T]: ...
