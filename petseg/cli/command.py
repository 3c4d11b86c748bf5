"""What all commands share: flags, one-line errors, exit statuses, quiet logs.

Commands import TensorFlow, and what imports it, within functions: --help and a wrong flag do
not wait for it, and it is loaded here first, without the lines that its libraries print.
"""

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import absl.logging
from absl import app

from petseg import standard_error, temporary_folder
from petseg.cli import ending, flag_parsing, help_page

ending.end_early_interrupts_in_one_line()
# What the user set for other programs. A notebook's backend, which its commands inherit, may be
# missing, and pictures are drawn to files.
os.environ["MPLBACKEND"] = "agg"
os.environ["KERAS_BACKEND"] = "tensorflow"
temporary_folder.use_memory_if_needed()
# Letters that the encoding of standard output lacks are escaped, as on standard error.
if hasattr(sys.stdout, "reconfigure"):  # a notebook's is no file
    sys.stdout.reconfigure(errors="backslashreplace")

# Keras imports these where they are installed, which takes a third of TensorFlow's import; no
# command uses what Keras has for them.
_UNUSED = ("sklearn", "matplotlib.pyplot")


def import_tensorflow() -> None:
    """Imports TensorFlow, quietly and without what only Keras's other users need.

    Whoever imports that later gets it.
    """
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None: as if it were not installed
    try:
        standard_error.import_tensorflow()
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def run(
    main: Callable[[Sequence[str]], None],
    first: Sequence[str],
    settings: Mapping[str, str] = MappingProxyType({}),
    check: Callable[[Sequence[str]], None] = flag_parsing.refuse_arguments,
) -> None:
    """Parses the flags, calls main(arguments) and ends the process; see petseg.cli.ending.

    Args:
      main: the command; its module's docstring is the text of --help.
      first: names of the flags that --help lists first.
      settings: flags that absl does not know, such as config.data.dir: name -> help.
      check: looks at the flags and the arguments before TensorFlow is loaded, which takes
        seconds; raises UserError.
    """
    text = help_page.answer(sys.argv[1:], sys.modules[main.__module__].__doc__, first, settings)
    if text is not None:
        sys.exit(ending.call(lambda _: print(text), ()))
    temporary_folder.use_own()
    absl.logging.set_verbosity(absl.logging.WARNING)
    # Pillow warns about odd files that it can read; nobody could act on that.
    warnings.filterwarnings("ignore", module="PIL")

    def work(arguments: Sequence[str]) -> None:
        check(arguments)
        import_tensorflow()
        main(arguments)

    app.run(lambda argv: sys.exit(ending.call(work, argv[1:])), flags_parser=flag_parsing.parse)
