"""A setting's choices, limits and dependencies.

A field of the config's sections is made by `setting`; its metadata states once what values
it may take (checked by config_rules.validate), whether a resumed run may
change it, whether TensorBoard's hparams show it, and whether it is a path.
"""

import dataclasses
import difflib
import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from petseg import paths
from petseg.image_size import simplest

_KEY = "rules"


class Resume(enum.Enum):
    """Whether a setting may differ when a run is resumed."""

    FIXED = "fixed"
    FREE = "free"  # it changes nothing that the steps so far decided
    SAME_PRESENCE = "same presence"  # its value may, whether it is empty may not


class Hparam(enum.Enum):
    """How TensorBoard's table of hparams shows a setting."""

    COLUMN = "column"  # always
    IF_CHANGED = "if changed"  # a column where it differs from its default
    NEVER = "never"  # it moves no weight


@dataclasses.dataclass(frozen=True)
class Rules:
    """What holds of a setting.

    Attributes:
      choices: What it may be, by name: a registry, or a tuple; None for anything.
      at_least: Least number, or None.
      above: Bound that is not included, or None.
      at_most: Greatest number, or None.
      multiple_of: What divides it.
      resume: Whether a resumed run may change it.
      hparam: Whether TensorBoard's hparams show it.
      is_path: Whether it names a file or folder; a leading ~ is then the user's folder.
      not_paths: Values of a path's setting that are none.
      is_size: Whether it is an image_size.ImageSize; the numbers' rules hold of both sides.
    """

    choices: Iterable[str] | None = None
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    multiple_of: int = 1
    resume: Resume = Resume.FIXED
    hparam: Hparam = Hparam.IF_CHANGED
    is_path: bool = False
    not_paths: tuple[str, ...] = ("",)
    is_size: bool = False


def setting(default: object, **rules: Any) -> Any:  # noqa: ANN401  (typed as its value)
    """A dataclass field with Rules; a list as default is copied for each config."""
    metadata = {_KEY: Rules(**rules)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def rules_of(field: dataclasses.Field) -> Rules:
    """The rules of a field; those of a plain field forbid nothing."""
    return field.metadata.get(_KEY, Rules())


class Section:
    """A group of settings; assigning to a name that is no setting raises AttributeError."""

    # Names of petseg 0.1 -> what replaces them.
    _renamed: ClassVar[dict[str, str]] = {}

    if not TYPE_CHECKING:  # with it, type checkers would accept any name

        def __setattr__(self, name: str, value: object) -> None:
            if name not in self.__dataclass_fields__:
                if name in self._renamed:
                    hint = f"it is now {self._renamed[name]}"
                else:
                    known = [field.name for field in dataclasses.fields(self)]
                    near = difflib.get_close_matches(name, known, 1)
                    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
                raise AttributeError(f"{type(self).__name__} has no setting '{name}'; {hint}")
            rules = rules_of(self.__dataclass_fields__[name])
            if isinstance(value, str) and rules.is_path:
                value = paths.expand(value)
            elif rules.is_size:
                value = simplest(value)
            super().__setattr__(name, value)

    @classmethod
    def renamed(cls) -> dict[str, str]:
        """Names of petseg 0.1 -> what replaces them."""
        return cls._renamed
