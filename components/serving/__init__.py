"""Serving: the pyfunc model that MLflow registers and `rcvit ask` calls."""
