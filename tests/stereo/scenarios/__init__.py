"""All scenarios, in the order of the table. Importing this registers them.

A scenario is told a cluster `s` that is well (or, with `formed=False`, that is not
there yet), breaks it, waits for what must follow, and sets right what it broke. That
the cluster is whole in the end, and that nothing was lost on the way, is not for the
scenario to check: `judgement` does so after each. To add one, write it beside its
like, and try it: `suite -k NAME`."""

from . import primary, standby, witness, lines, power, members, operator, clocks, asynchronous  # noqa: E401, F401, I001
