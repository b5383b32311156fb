"""What can be known without one thing: the chance level of every question, from the benchmark's own counts.

A question asks about one object, by its looks (V2C) or by a fact of its text (C2V). Without the box, only the
label says which text is whose: the candidates are the objects of the asked label, for V2C those whose text
states the asked kind of fact. A guess among them is right for as many of them as hold the asked value (own
choice).
"""

from components.rcmu import ContextSet, Scene, Task, Turn


def without_link(turn: Turn, scene: Scene, context: ContextSet) -> float | None:
    """The chance of a guesser who reads label, texts and image but cannot tell which text is whose.

    None for a task that needs no link.
    """
    (claim,) = turn.claims if len(turn.claims) == 1 else (None,)
    if claim is None or turn.task not in (Task.V2C, Task.C2V):
        return None
    asked = scene.regions[context.regions[claim.k - 1].region]
    if turn.task is Task.V2C:
        keys = {fact.key for fact in context.regions[claim.k - 1].facts if fact.value == claim.value}
        values = [
            fact.value
            for told in context.regions
            if scene.regions[told.region].label == asked.label
            for fact in told.facts
            if fact.key in keys
        ]
    else:
        keys = {fact.key for fact in asked.facts if fact.value == claim.value}
        values = [
            fact.value
            for region in scene.regions
            if region.label == asked.label
            for fact in region.facts
            if fact.key in keys
        ]
    return values.count(claim.value) / len(values)
