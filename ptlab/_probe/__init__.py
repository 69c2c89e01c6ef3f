"""Parts of `ptlab.probes` and `ptlab.probe_leaks`."""
