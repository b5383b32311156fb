"""RC&P-Bench: the benchmark split answered by greedy decoding, judged, and shown with intervals."""

from components.evaluation.bench import evaluate_model
from components.evaluation.engine import answer_batch
from components.evaluation.metrics import Score, is_refusal, score
from components.evaluation.statistics import Estimate

__all__ = ["Estimate", "Score", "answer_batch", "evaluate_model", "is_refusal", "score"]
