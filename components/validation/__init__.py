"""The expectations on scenes, context sets and turns, and their report."""

from components.validation.validate import ValidationResult, validate_data

__all__ = ["ValidationResult", "validate_data"]
