"""How training patches are taken from pictures: settings alone.

Source: Pinheiro, Collobert and Dollar 2015, "Learning to Segment Object Candidates" (DeepMask),
whose numbers the defaults are: of a patch of 224 px an object takes 128 px, is off its centre by
up to 16 px and in scale by up to 2^(1/4); a patch off by 32 px or by 2 is none of that object.
"""

import dataclasses

from petseg.setting import Section, setting


@dataclasses.dataclass
class PatchSampling(Section):
    """Patches around and beside the objects of pictures, in place of whole pictures.

    A patch is a square window, which may stick out of its picture. It is canonical if it holds an
    object, centred, at a given scale: then the model learns its mask, and that an object is there.
    Of another patch the model learns that none is, and no mask. Shares are of the patch's side.

    Attributes:
      enabled: Train on patches. Needs model.presence, and a label map of two classes of which one
        is called background.
      object_share: Longer side of an object's box in a canonical patch, before jitter.
      canonical_share: Share of the patches that are canonical, where there is an object.
      max_shift: Jitter of a canonical patch: its centre is off the box's by up to this share
        either way, down and across.
      max_octaves: Jitter of a canonical patch: its side is multiplied by up to 2 to this power
        either way.
      other_min_shift: From which share on a shifted patch is not canonical.
      other_min_octaves: From which power of 2 on a scaled patch is not canonical.
    """

    enabled: bool = setting(False)
    object_share: float = setting(128 / 224, at_least=0.1, at_most=1)
    canonical_share: float = setting(0.5, at_least=0, at_most=1)
    max_shift: float = setting(16 / 224, at_least=0, at_most=0.25)
    max_octaves: float = setting(0.25, at_least=0, at_most=1)
    other_min_shift: float = setting(32 / 224, at_least=0.01, at_most=0.4)
    other_min_octaves: float = setting(1.0, at_least=0.1, at_most=4)
