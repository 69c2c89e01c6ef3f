"""Parts of `ptlab.metrics`."""
