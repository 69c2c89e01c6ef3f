"""Parts of `ptlab.export`, `ptlab.quantize` and `ptlab.runtimes`."""
