"""RC&P-Bench: the benchmark split answered, judged, and shown."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from components.errors import DataError
from components.evaluation.engine import answer_turns
from components.evaluation.metrics import Score, score
from components.evaluation.report import Answered, write_report
from components.evaluation.statistics import Estimate, cluster_weights, ratio, sums_by_cluster
from components.params import EvaluationParams
from components.rcmu import Split, Task, Turn, cited
from components.rcmu.tables import PREDICTIONS, read_contexts, read_scenes, read_turns, write_rows


def evaluate_model(
    *, model: Path, scenes: Path, turns: Path, params: EvaluationParams, seed: int, folder: Path
) -> None:
    """Write predictions.parquet, metrics.json and report.html of a model folder into `folder`.

    Raises:
        DataError: when the benchmark split holds no turn.
    """
    images = {scene.scene_id: scene for scene in read_scenes(scenes, Split.BENCHMARK)}
    contexts = {context.context_id: context for context in read_contexts(turns, Split.BENCHMARK)}
    questions = list(read_turns(turns, Split.BENCHMARK))
    if not questions:
        raise DataError(
            f"{turns} holds no turn of the benchmark split",
            hint="raise source.scenes or source.benchmark_share in params.yaml",
        )
    answers = answer_turns(model, images, contexts, questions, params)
    scores = [score(turn, answer) for turn, answer in zip(questions, answers, strict=True)]
    write_rows(folder / "predictions.parquet", PREDICTIONS, _rows(questions, answers, scores))
    metrics = estimate_metrics(questions, scores, params, seed=seed)
    summary = {
        "confidence": params.confidence,
        "images": len({turn.scene_id for turn in questions}),
        "turns": len(questions),
        "metrics": {name: estimate.model_dump() for name, estimate in metrics.items()},
    }
    text = json.dumps(summary, indent=1, sort_keys=True) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    answered = [
        Answered(turn=turn, answer=answer, correct=given.correct)
        for turn, answer, given in zip(questions, answers, scores, strict=True)
    ]
    write_report(
        folder / "report.html",
        scenes=list(islice(images.values(), params.report_scenes)),
        contexts=contexts,
        answered=answered,
        metrics=metrics,
        confidence=params.confidence,
    )


def estimate_metrics(
    turns: Sequence[Turn], scores: Sequence[Score], params: EvaluationParams, *, seed: int
) -> dict[str, Estimate]:
    """Accuracy in all and per sub-task, and micro-averaged citation precision, recall and F1.

    Every interval is a percentile bootstrap over images, all from the same resamples.
    """
    index = {scene_id: i for i, scene_id in enumerate(dict.fromkeys(turn.scene_id for turn in turns))}
    weights = cluster_weights(len(index), resamples=params.bootstrap_resamples, seed=seed)

    def estimated(pairs: Iterator[tuple[str, float, float]]) -> Estimate:
        clusters, numerators, denominators = zip(*pairs, strict=True)
        return ratio(
            sums_by_cluster(clusters, numerators, index),
            sums_by_cluster(clusters, denominators, index),
            weights,
            confidence=params.confidence,
        )

    judged = list(zip(turns, scores, strict=True))
    metrics = {"accuracy": estimated((t.scene_id, float(s.correct), 1.0) for t, s in judged)}
    for task in Task:
        if any(turn.task is task for turn in turns):
            metrics[f"accuracy_{task}"] = estimated(
                (t.scene_id, float(s.correct), 1.0) for t, s in judged if t.task is task
            )
    metrics["citation_precision"] = estimated((t.scene_id, s.cited_right, s.cited) for t, s in judged)
    metrics["citation_recall"] = estimated((t.scene_id, s.cited_right, s.cited_reference) for t, s in judged)
    metrics["citation_f1"] = estimated(
        (t.scene_id, 2 * s.cited_right, s.cited + s.cited_reference) for t, s in judged
    )
    return metrics


def _rows(
    turns: Sequence[Turn], answers: Sequence[str], scores: Sequence[Score]
) -> Iterator[dict[str, object]]:
    for turn, answer, given in zip(turns, answers, scores, strict=True):
        yield {
            "turn_id": turn.turn_id,
            "scene_id": turn.scene_id,
            "task": str(turn.task),
            "answer": answer,
            "citations": list(cited(answer)),
            "correct": given.correct,
            "cited_right": given.cited_right,
            "cited": given.cited,
            "cited_reference": given.cited_reference,
        }
