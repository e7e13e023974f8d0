"""What every test with real processes stands on: processes that surely end,
machines made of network namespaces, and the witness, ours or Python's."""
