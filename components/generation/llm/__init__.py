"""RCMU data by an LLM (RCMU.md, "The RCMU data set"): every step but the splice is a prompt with a schema."""

from components.generation.llm.estimate import Estimate, estimate_shards
from components.generation.llm.route import write_llm_shards

__all__ = ["Estimate", "estimate_shards", "write_llm_shards"]
