"""The prompts of the LLM route, one for each step of RCMU's recipe. All wording is our own choice.

The published work names the steps and shows no prompt. Each answer is a small model; its docstring and its
fields are the schema that the LLM gets, so its strings are plain: what they hold is checked afterwards.
"""

import hashlib
from collections.abc import Sequence

from components.llm import Prompt
from components.rcmu import Fact
from components.rcmu.models import Frozen

GAP = "{e}"  # in a question, where the expression of an object goes
_KEYS = "A key is one or two lower-case words such as job or color."


class Stated(Frozen):
    """One fact as key and value; the value is copied word for word."""

    key: str
    value: str


class TextAnswer(Frozen):
    """A text about one object, and the facts it states."""

    text: str
    facts: tuple[Stated, ...]


class FactsAnswer(Frozen):
    """The facts that a phrase states."""

    facts: tuple[Stated, ...]


class Asked(Frozen):
    """A question for one fact, with {e} where the object goes, and its answer as a sentence."""

    key: str
    question: str
    answer: str


class QuestionsAnswer(Frozen):
    """One question for each fact."""

    questions: tuple[Asked, ...]


class Named(Frozen):
    """An expression that names the object by one fact."""

    key: str
    expression: str


class ExpressionsAnswer(Frozen):
    """One expression for each fact."""

    expressions: tuple[Named, ...]


class Unsaid(Frozen):
    """An attribute that the text does not mention, and a question for it with {e} where the object goes."""

    attribute: str
    question: str


class UnsaidAnswer(Frozen):
    """Attributes that the text does not mention."""

    attributes: tuple[Unsaid, ...]


class DescriptionAnswer(Frozen):
    """A description of the image."""

    description: str


class CitedAnswer(Frozen):
    """The same description with citations."""

    cited: str


class Line(Frozen):
    """What a description is made of, for one object."""

    label: str
    expression: str
    text: str


def text_about(label: str, *, given: Fact, keys: Sequence[str], number: int) -> Prompt[TextAnswer]:
    """Step 1: text `number` of the pool of a label, which states `given` and something for each key."""
    others = [key for key in keys if key != given.key]
    words = _typical_words(f"{label} {given.value} {number}")
    return Prompt(
        system="You invent texts about fictitious people, animals and things for a reading exercise. A text "
        "has 30 to 180 words in plain English, tells one short story, says nothing about looks or place in "
        "a picture, and holds no brackets. List every fact of the text as key and value. A value is one to "
        f"six words that stand in the text exactly so. {_KEYS}",
        user=f"Write text number {number} about a {label}. Make it unlike the other texts.\n"
        f"Label: {label}\nIts {given.key}: {given.value}\nInvent and state as well: {', '.join(others)}",
        answer=TextAnswer,
        typical=TextAnswer(
            text=f"The {label} has the {given.key} {given.value}. {' '.join(words)}.",
            facts=(
                Stated(key=given.key, value=given.value),
                *(Stated(key=key, value=word) for key, word in zip(others, words, strict=False)),
            ),
        ),
    )


def facts_seen(label: str, expression: str) -> Prompt[FactsAnswer]:
    """Step 2: what a referring expression says about looks."""
    last = expression.split()[-1]
    return Prompt(
        system="You read a phrase that names an object of a photo by its looks. List what it says about that "
        "very object that can be seen, as key and value, such as color, clothing, action, material, "
        "position. A value is copied from the phrase word for word. List nothing when it says nothing "
        f"beyond the class. {_KEYS}",
        user=f"Label: {label}\nPhrase: {expression}",
        answer=FactsAnswer,
        typical=FactsAnswer(facts=(Stated(key="looks", value=last),)),
    )


def questions_seen(label: str, facts: Sequence[Fact]) -> Prompt[QuestionsAnswer]:
    """Step 2: questions for what is seen."""
    return Prompt(
        system="For each fact about an object of a photo write one question that asks for it and one "
        f"sentence that answers it. In the question the object is called {GAP}, exactly once, and nothing "
        "else may tell the value. The sentence calls the object by its label and holds the value word for "
        f"word. Example for the fact color = red of a car: What color is {GAP}? The car is red.",
        user=f"Label: {label}\n{_listed(facts)}",
        answer=QuestionsAnswer,
        typical=_typical_questions(label, facts),
    )


def questions_told(label: str, text: str, facts: Sequence[Fact]) -> Prompt[QuestionsAnswer]:
    """Step 3: questions for what a text says."""
    return Prompt(
        system="For each fact of a text about an object write one question that asks for it and one sentence "
        f"that answers it. In the question the object is called {GAP}, exactly once, and nothing else may "
        "tell the value or need the text to be understood. The sentence calls the object by its label and "
        f"holds the value word for word. Example for job = teacher: What does {GAP} do for a living? The "
        "person works as a teacher.",
        user=f"Label: {label}\nText: {text}\n{_listed(facts)}",
        answer=QuestionsAnswer,
        typical=_typical_questions(label, facts),
    )


def expressions_told(label: str, text: str, facts: Sequence[Fact]) -> Prompt[ExpressionsAnswer]:
    """Step 3: how a text's facts can name its object."""
    return Prompt(
        system="For each fact of a text about an object write one expression that names the object by this "
        "fact alone: it begins with `the` and the label, holds the value word for word, and no other "
        "fact. Example for job = teacher of a person: the person who is a teacher.",
        user=f"Label: {label}\nText: {text}\n{_listed(facts)}",
        answer=ExpressionsAnswer,
        typical=ExpressionsAnswer(
            expressions=tuple(
                Named(key=fact.key, expression=f"the {label} whose {fact.key} is {fact.value}")
                for fact in facts
            )
        ),
    )


def unsaid_of(label: str, text: str, facts: Sequence[Fact]) -> Prompt[UnsaidAnswer]:
    """Step 4: what a text does not say."""
    return Prompt(
        system="Name three attributes that one might ask about such an object and that its text does not "
        "mention at all, nor lets one conclude. An attribute is one to four words, such as year of birth. "
        f"For each write one question in which the object is called {GAP}, exactly once.",
        user=f"Label: {label}\nText: {text}\n{_listed(facts)}",
        answer=UnsaidAnswer,
        typical=UnsaidAnswer(
            attributes=tuple(
                Unsaid(attribute=word, question=f"What is the {word} of {GAP}?")
                for word in ("weight", "mood", "year of birth")
            )
        ),
    )


def description_of(caption: str, lines: Sequence[Line]) -> Prompt[DescriptionAnswer]:
    """Step 6, first pass: a description that uses caption and texts."""
    listed = "\n".join(f"- {line.expression} (label: {line.label}): {line.text}" for line in lines)
    return Prompt(
        system="Describe a photo in fluent English, one sentence or two for each object. Say what the "
        "caption and the phrases say about the looks, and for every object one or two facts of its text, "
        "copied word for word. Use nothing else and no brackets. At most 120 words.",
        user=f"Caption: {caption or '(none)'}\nObjects:\n{listed}",
        answer=DescriptionAnswer,
        typical=DescriptionAnswer(description=" ".join(line.text[:100] for line in lines)),
    )


def citations_in(description: str, lines: Sequence[Line]) -> Prompt[CitedAnswer]:
    """Step 6, second pass: the same words, with the number of a text after each phrase that uses it."""
    listed = "\n".join(f"[{k}] {line.label}: {line.text}" for k, line in enumerate(lines, start=1))
    return Prompt(
        system="Put citations into a description and change no word of it. After each phrase that uses a "
        "text put the number of that text in square brackets, such as [2]. A phrase that uses no text "
        "gets none.",
        user=f"Description: {description}\nTexts:\n{listed}",
        answer=CitedAnswer,
        typical=CitedAnswer(cited=description + "".join(f"[{k + 1}]" for k in range(len(lines)))),
    )


def _listed(facts: Sequence[Fact]) -> str:
    return "Facts:\n" + "\n".join(f"- {fact.key} = {fact.value}" for fact in facts)


def _typical_words(name: str) -> list[str]:
    """A hundred words that no text of another name has: like texts would be dropped as copies."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    stem = digest[:5].translate(str.maketrans("0123456789", "ghijklmnop"))
    return [f"{stem}{first}{second}" for first in "abcdefghij" for second in "abcdefghij"]


def _typical_questions(label: str, facts: Sequence[Fact]) -> QuestionsAnswer:
    return QuestionsAnswer(
        questions=tuple(
            Asked(
                key=fact.key,
                question=f"What is the {fact.key} of {GAP}?",
                answer=f"The {fact.key} of the {label} is {fact.value}.",
            )
            for fact in facts
        )
    )
