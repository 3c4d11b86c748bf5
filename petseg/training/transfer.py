"""The weights that a new run takes from another run (model.start_from)."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras

from petseg.config import Config
from petseg.errors import UserError
from petseg.models.segmentation_model import SegmentationModel
from petseg.run_dir import run_folder
from petseg.run_dir.trained_model import TrainedModel, build_untrained, load_trained_model

_SETTING = "config.model.start_from"
_NAMED = 4  # variables in a line; the run's summary names all
_Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What was taken, and what was not.

    Attributes:
      run: The other run's folder.
      step: Of its checkpoint.
      taken: Number of variables that were taken.
      initialised: Paths of those that were not: they start as in a run of its own.
      reasons: Why not, in words.
    """

    run: str
    step: int
    taken: int
    initialised: tuple[str, ...]
    reasons: tuple[str, ...]

    def line(self) -> str:
        """All of it, in one line."""
        total = self.taken + len(self.initialised)
        text = f"model.start_from={self.run}, step {self.step}: {self.taken} of {total} variables"
        if not self.initialised:
            return f"{text} taken"
        more = len(self.initialised) - _NAMED
        names = ", ".join(self.initialised[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{text} taken; {' and '.join(self.reasons)}, so initialised: {names}"

    def text(self) -> str:
        """The same for the run's summary: every variable in a line."""
        lines = [f"{self.line()}.", *(f"initialised: {path}" for path in self.initialised)]
        return "\n".join(lines if self.initialised else lines[:1])


def start_from(config: Config, class_names: Sequence[str], model: SegmentationModel) -> Transfer:
    """Takes the newest weights of the run config.model.start_from, as far as they fit.

    The encoder must be the same. Of the same decoder those layers are taken whose variables have
    the same names and shapes, but none that depends on the classes if these are others.

    Args:
      config: The new run's settings.
      class_names: Of the new run.
      model: The new run's, initialised.

    Raises:
      UserError: It is no run, it has no weights that can be read, or another encoder.
    """
    path = config.model.start_from
    try:
        _check_encoder_settings(run_folder.read_config(path), config)
        other = load_trained_model(path)
    except UserError as error:
        reason = str(error).removeprefix("--workdir=")
        raise UserError(f"{_SETTING}: {reason}") from error
    _check_encoder_variables(path, other.model, model)
    layers, reasons = _fitting_layers(other, config, class_names, model)
    values = {variable.path: variable for variable in other.model.variables}
    taken, initialised = 0, []
    encoder = {id(variable) for variable in model.encoder.variables}
    for variable in model.variables:
        if id(variable) in encoder or _layer(variable.path) in layers:
            variable.value.assign(values[variable.path].numpy())
            taken += 1
        else:
            initialised.append(variable.path)
    return Transfer(path, other.step, taken, tuple(initialised), tuple(reasons))


def _check_encoder_settings(theirs: Config, ours: Config) -> None:
    for field in dataclasses.fields(ours.model):
        if not field.name.startswith("encoder") or field.name == "encoder_weights":
            continue
        old, new = (getattr(config.model, field.name) for config in (theirs, ours))
        if old != new:
            raise UserError(
                f"{ours.model.start_from} has {field.name}={old}, this run {field.name}={new}, "
                f"whose weights do not fit; set config.model.{field.name}={old}, or leave "
                f"{_SETTING} out"
            )


def _check_encoder_variables(path: str, other: SegmentationModel, model: SegmentationModel) -> None:
    """Raises UserError if the encoder has changed although its settings are the same."""
    theirs, ours = (_shapes(one.encoder.variables) for one in (other, model))
    for name in {**ours, **theirs}:
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"{_SETTING}={path}: of the encoder's '{name}' it has the shape "
                f"{theirs.get(name)}, this run {ours.get(name)}; leave {_SETTING} out"
            )


def _fitting_layers(
    other: TrainedModel, config: Config, class_names: Sequence[str], model: SegmentationModel
) -> tuple[set[str], list[str]]:
    """The decoder's layers that can be taken, and why others cannot."""
    before, now = other.config.model, config.model
    if before.decoder != now.decoder:
        return set(), [f"its decoder is {before.decoder}, not {now.decoder}"]
    theirs, ours = (_by_layer(one) for one in (other.model, model))
    fitting = {name for name, shapes in ours.items() if theirs.get(name) == shapes}
    reasons = []
    if before.decoder_channels != now.decoder_channels:
        reasons.append(f"its decoder_channels are {before.decoder_channels}")
    if now.presence and not before.presence:
        reasons.append("it has no presence head")
    if tuple(other.label_map.names) != tuple(class_names):
        reasons.append(f"its classes are {', '.join(other.label_map.names)}")
        # As many classes, but others: their layers are those that one class more would change.
        more = build_untrained(config, len(class_names) + 1, config.data.image_size)
        of_more = _by_layer(more)
        fitting = {name for name in fitting if of_more.get(name) == ours[name]}
    return fitting, reasons or ["its decoder had other layers"]


def _shapes(variables: Sequence[keras.Variable]) -> _Shapes:
    return {variable.path: tuple(variable.shape) for variable in variables}


def _by_layer(model: SegmentationModel) -> Mapping[str, _Shapes]:
    """Shapes by path, by layer of its heads: half a layer of another run is worth nothing."""
    layers: dict[str, _Shapes] = {}
    for path, shape in _shapes([v for head in model.heads for v in head.variables]).items():
        layers.setdefault(_layer(path), {})[path] = shape
    return layers


def _layer(path: str) -> str:
    return path.rpartition("/")[0]
