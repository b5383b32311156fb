"""The Prefect flows and the command line: only wiring, everything else is in `components`."""
