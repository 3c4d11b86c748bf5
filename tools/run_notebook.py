#!/usr/bin/env python3
"""Runs a notebook and keeps what readers should see: printed results, and pictures as PNG.

  python tools/run_notebook.py examples/pets.ipynb

Progress, warnings and the doubles of pictures as JPEG are left out, so that the file stays
small. Needs pip install '.[notebook]' nbclient.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

_TIMEOUT_S = 1200


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a new run of all its cells, in order, in a new process.

    Raises:
      nbclient.exceptions.CellExecutionError: A cell failed; the text has its traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=_TIMEOUT_S, kernel_name="python3").execute()
    return notebook


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same notebook without what is not to be kept; it is changed in place."""
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [kept for output in cell.outputs if (kept := _clean_output(output))]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def _clean_output(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    if output.output_type == "stream":
        lines = output.text.splitlines(keepends=True)
        output.text = "".join(line for line in lines if not line.startswith("INFO:"))
        return output if output.name == "stdout" and output.text else None
    if output.output_type == "display_data":  # a bar of progress
        return None
    kept = "image/png" if "image/png" in output.data else "text/plain"
    output.data = {kept: output.data[kept]}
    return output


if __name__ == "__main__":
    (path,) = map(Path, sys.argv[1:])
    nbformat.write(clean(run(path)), path)
