"""The flags of proposals, which evaluate and predict share."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
    from petseg.proposals.proposer import Proposer
    from petseg.run_dir.trained_model import TrainedModel

flags.disclaim_key_flags()  # they belong to the modules that call `define`


def define() -> tuple[list[flags.FlagHolder], "Callable[[TrainedModel], Proposer]"]:
    """Defines --proposal_count, --proposal_scales and --proposal_max_iou.

    Returns:
      The flags; a function that makes what they ask for of a run, once they are parsed.
    """
    count = flags.DEFINE_integer(
        "proposal_count", 100, "Most proposals of a picture.", lower_bound=1
    )
    scales = flags.DEFINE_integer(
        "proposal_scales",
        5,
        "Scales at which proposals are looked for: at the first an object may be as long as the "
        "picture, at each further one shorter by the root of 2.",
        lower_bound=1,
        upper_bound=12,
    )
    max_iou = flags.DEFINE_float(
        "proposal_max_iou",
        0.8,
        "Leave out a proposal whose box overlaps that of a better one by a higher IoU.",
        lower_bound=0,
        upper_bound=1,
    )

    def make(trained: "TrainedModel") -> "Proposer":
        from petseg.proposals.proposer import make_proposer

        return make_proposer(trained, scales.value, count.value, max_iou.value)

    return [count, scales, max_iou], make
