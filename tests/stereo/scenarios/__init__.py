"""All scenarios, in the order of the table. Importing this registers them."""

from . import primary, standby, witness, lines, power, members, operator, clocks, asynchronous  # noqa: E401, F401, I001
