"""Proposes objects of pictures, and writes them."""

import collections
import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from PIL import Image

from petseg import device_memory
from petseg.data.image_range import ImageRange
from petseg.inference import output_files, outputs
from petseg.inference.jobs import PredictionJob
from petseg.inference.output_kinds import PROPOSAL_PICTURES, PROPOSALS
from petseg.inference.picture_pipeline import one_line, read_picture
from petseg.progress import Progress
from petseg.proposals import proposal_file
from petseg.proposals.proposer import Proposals, Proposer
from petseg.visualization import proposals as drawing

DRAWN = 5  # proposals, in a picture of them
_JPEG_QUALITY = 92


def propose_files(
    proposer: Proposer,
    jobs: Sequence[PredictionJob],
    output_dir: str,
    kinds: Sequence[str],
    image_range: ImageRange | None,
) -> int:
    """Writes the proposals of every picture; see proposal_file.

    A picture that cannot be read is skipped alone, with a line on standard error.

    Args:
      proposer: The model.
      jobs: From jobs.plan_jobs; no videos.
      output_dir: Folder of the files.
      kinds: Some of output_kinds.OF_PROPOSALS.
      image_range: See picture_pipeline.read_picture.

    Returns:
      The number of pictures that failed.

    Raises:
      UserError: The output cannot be written.
    """
    failed = 0
    file: proposal_file.ProposalFile | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(device_memory.exhaustion_in_one_line("try a smaller --batch_size"))
        if PROPOSALS in kinds:
            file = stack.enter_context(proposal_file.writing(output_dir))
        title = {"title": "propose", "unit": "picture"}
        progress = stack.enter_context(Progress(0, len(jobs), **title))
        for job, read in _read_ahead(jobs, image_range):
            try:
                image = read.result()
            # Decoders of damaged files raise exceptions of every kind.
            except Exception as error:
                failed += 1
                progress.warn(f"{job.source}: cannot be read: {one_line(error)}")
            else:
                proposals = proposer.propose(image)
                if file:
                    suffix = job.source.suffix
                    file.add(job.name.removesuffix(suffix) + suffix, proposals)
                if PROPOSAL_PICTURES in kinds:
                    _draw(job, image, proposals)
            progress.advance()
    return failed


def _read_ahead(
    jobs: Sequence[PredictionJob], image_range: ImageRange | None
) -> Iterator[tuple[PredictionJob, Future]]:
    """Each picture with its pixels, which are read while the one before is computed."""
    with ThreadPoolExecutor(1) as reader:
        waiting: collections.deque[tuple[PredictionJob, Future]] = collections.deque()
        for job in jobs:
            waiting.append((job, reader.submit(read_picture, job.source, image_range)))
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting


def _draw(job: PredictionJob, image: np.ndarray, proposals: Proposals) -> None:
    drawn = drawing.draw(image, proposals.boxes, proposals.scores, proposals.masks, DRAWN)
    with output_files.writing(outputs.output_path(job.stem, PROPOSAL_PICTURES)) as temporary:
        Image.fromarray(drawn).save(
            temporary, "JPEG", quality=_JPEG_QUALITY, comment=output_files.MARK
        )
