"""A run under way: what every part of the loop needs, and how far it has come."""

import dataclasses
import time
from collections.abc import Callable, Iterable

import numpy as np

from petseg.config import Config
from petseg.inference.eval_step import EvalStep
from petseg.training import summaries
from petseg.training.curves import Window
from petseg.training.learner import Learner
from petseg.training.opening import Opened
from petseg.training.progress import Progress
from petseg.training.stopping import StopRequest


@dataclasses.dataclass(frozen=True)
class Run:
    """What does not change.

    Attributes:
      validation: blocks whose pools are known -> this host's batches of the validation
        split; building them takes time.
      panel: the examples that every evaluation shows; None where nothing is shown.
      table: colours of the classes.
      evaluations: figures by step.
      began_s: monotonic time at which the run began, or would have, had it not been stopped.
    """

    opened: Opened
    workdir: str
    eval_step: EvalStep
    validation: Callable[[tuple[int, ...]], Iterable]
    panel: dict[str, np.ndarray] | None
    table: np.ndarray
    evaluations: dict[int, dict]
    began_s: float
    writers: summaries.Writers
    progress: Progress
    request: StopRequest

    @property
    def config(self) -> Config:
        """The settings."""
        return self.opened.config


@dataclasses.dataclass
class Course:
    """How far a run has come.

    Attributes:
      step: how many steps are done.
      learner: the model within the present stage.
      window: what the next point of the curves is made of.
      calls: of the graph, in this stage.
      step_s: how long a step took in the last call, as all hosts know it.
      rate_factor: what the rate is multiplied with, as all hosts know it.
      saved_s: when the last checkpoint was written.
      loss_sum: over the steps since the last evaluation, in this process.
      loss_steps: their number.
    """

    step: int
    learner: Learner
    window: Window
    calls: int = 0
    step_s: float = 0.0
    rate_factor: float = 1.0
    saved_s: float = dataclasses.field(default_factory=time.monotonic)
    loss_sum: float = 0.0
    loss_steps: int = 0
