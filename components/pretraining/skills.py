"""How much of what the tiny base was taught it can do: exact answers about scenes it has not seen."""

from collections import Counter
from pathlib import Path

from components.evaluation.engine import answer_turns
from components.params import EvaluationParams
from components.pretraining.tasks import skill_of
from components.rcmu.models import Frozen
from components.rcmu.tables import read_contexts, read_scenes, read_turns


class Skill(Frozen):
    """How many held-out turns of one skill were answered with the very reference."""

    exact: int
    n: int


def measure_skills(model: Path, corpus: Path, decoding: EvaluationParams) -> dict[str, Skill]:
    """Greedy answers of a model folder to every turn of a held-out corpus, by skill in alphabetic order."""
    scenes = {scene.scene_id: scene for scene in read_scenes(corpus)}
    contexts = {context.context_id: context for context in read_contexts(corpus)}
    turns = list(read_turns(corpus))
    answers = answer_turns(model, scenes, contexts, turns, decoding)
    exact, asked = Counter[str](), Counter[str]()
    for turn, answer in zip(turns, answers, strict=True):
        skill = skill_of(turn.turn_id)
        asked[skill] += 1
        exact[skill] += answer == turn.answer
    return {skill: Skill(exact=exact[skill], n=asked[skill]) for skill in sorted(asked)}
