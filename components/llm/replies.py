"""What came back: judged before it is used."""

from pydantic import BaseModel, ValidationError

from components.llm.prompts import Answer, Prompt, SetAside, estimated_tokens
from components.rcmu.models import Frozen

_SHOWN = 200  # characters of a reply in a reason


class Usage(Frozen):
    """Tokens of one call, as the endpoint counted them."""

    input_tokens: int
    output_tokens: int
    estimated: bool  # the endpoint did not say, so by characters


class Reply(Frozen):
    """One judged reply: either `answer`, JSON of the prompt's schema, or what is wrong."""

    answer: str | None
    wrong: SetAside | None
    usage: Usage


# Only what is read; endpoints add fields of their own.
class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


def judge(body: str, prompt: Prompt[Answer], *, estimated_input: int) -> Reply:
    """Whether the body of a response holds an answer of the prompt's schema."""
    guess = Usage(input_tokens=estimated_input, output_tokens=estimated_tokens(body), estimated=True)
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError:
        return Reply(answer=None, wrong=_because("malformed", body), usage=guess)
    if not completion.choices:
        return Reply(answer=None, wrong=_because("malformed", body), usage=guess)
    usage = guess
    if completion.usage is not None:
        usage = Usage(
            input_tokens=completion.usage.prompt_tokens,
            output_tokens=completion.usage.completion_tokens,
            estimated=False,
        )
    choice = completion.choices[0]
    wrong = _wrong(choice, prompt)
    return Reply(answer=None if wrong else choice.message.content, wrong=wrong, usage=usage)


def too_long(limit: int, *, estimated_input: int) -> Reply:
    """The reply whose body went over the limit of bytes and was not read to its end."""
    usage = Usage(input_tokens=estimated_input, output_tokens=0, estimated=True)
    wrong = SetAside(reason="too long", detail=f"more than {limit} bytes")
    return Reply(answer=None, wrong=wrong, usage=usage)


def _wrong(choice: _Choice, prompt: Prompt[Answer]) -> SetAside | None:
    content = choice.message.content or ""
    if choice.message.refusal or choice.finish_reason == "content_filter":
        return _because("refusal", choice.message.refusal or content)
    if choice.finish_reason == "length":
        return _because("cut off", content)
    try:
        prompt.answer.model_validate_json(content)
    except ValidationError as error:
        broken = any(mistake["type"] == "json_invalid" for mistake in error.errors())
        return _because("malformed" if broken else "wrong schema", content)
    return None


def _because(reason: str, words: str) -> SetAside:
    return SetAside(reason=reason, detail=" ".join(words.split())[:_SHOWN])
