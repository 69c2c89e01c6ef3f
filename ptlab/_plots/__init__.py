"""Parts of `ptlab.plots`."""
