"""params.yaml as frozen models: everything that changes a result, and nothing else."""

import hashlib
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.errors import ParamsError

SCRATCH = "scratch"  # random weights
TINY_BASE = "tiny"  # what ships with the package
PhotoKind = Literal["coco", "refcoco", "flickr30k_entities", "visual_genome", "toloka"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceParams(_Section):
    """Where scenes come from."""

    kind: Literal["synthetic", PhotoKind]
    annotations: str | None  # what the reader takes, inside the workspace, under data/; photos only
    skip_broken: bool  # leave broken records out and list them, instead of an error; photos only
    scenes: int | None = Field(gt=1)  # images in all; null takes all photos
    benchmark_share: float = Field(gt=0, lt=1)  # share of images kept for the benchmark
    max_regions: int = Field(ge=1, le=20)  # objects per image
    image_size: int = Field(ge=56, le=1024)  # pixels a side; synthetic only
    min_regions: int = Field(ge=1, le=20)  # objects per image; synthetic only
    twins_share: float = Field(ge=0, le=1)  # of the images, where two objects have one label; synthetic only

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind != "synthetic" and self.annotations is None:
            raise ValueError(
                f"source.kind {self.kind} needs source.annotations: `rcvit data import` prints the value"
            )
        if self.kind == "synthetic" and self.scenes is None:
            raise ValueError("source.kind synthetic needs source.scenes")
        if self.min_regions > self.max_regions:
            raise ValueError("source.min_regions is larger than source.max_regions")
        return self


class GenerationParams(_Section):
    """How texts and questions are made, and how many of a scene."""

    # plain: short texts for the tiny model, whose recipe names no route; rich: 30 to 180 words; llm: an
    # LLM writes texts and questions.
    route: Literal["plain", "rich", "llm"] = "plain"
    context_sets: int = Field(ge=1)  # sets of texts per image (about 12 in the published data)
    facts_per_text: int = Field(ge=1, le=8)  # at most 4 on the plain route
    questions_per_task: int = Field(ge=1)  # per context set and sub-task

    @model_validator(mode="after")
    def _kinds_suffice(self) -> Self:
        if self.route == "plain" and self.facts_per_text > 4:
            raise ValueError("generation.route plain has texts of at most 4 facts")
        return self


class LlmParams(_Section):
    """The LLM that writes data (generation.route llm); where it is stands in the settings."""

    model: str = Field(min_length=1)  # as the endpoint names it
    temperature: float = Field(ge=0, le=2)
    max_tokens: int = Field(ge=64)  # of one answer
    texts_per_label: int = Field(ge=1)  # in the pool of each split; more where one photo has more such boxes
    usd_per_million_input: float | None = Field(ge=0)  # price of tokens; null: cost is unknown
    usd_per_million_output: float | None = Field(ge=0)

    @model_validator(mode="after")
    def _prices_together(self) -> Self:
        if (self.usd_per_million_input is None) != (self.usd_per_million_output is None):
            raise ValueError("usd_per_million_input and usd_per_million_output: give both prices or neither")
        return self


class Bound(_Section):
    """What a measure of the data must lie between, both ends included; null leaves an end open."""

    least: float | None
    most: float | None
    severity: Literal["error", "warning"]  # an error stops the chain, a warning is shown

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least is None and self.most is None:
            raise ValueError("least and most are both null: it would bound nothing")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("least is larger than most")
        return self


class ValidationParams(_Section):
    """Distributions of the data (own choice): what is sound row by row may still teach a shortcut."""

    refusals_share: Bound  # of the turns of each split
    task_share: Bound  # of each sub-task among the turns of each split
    first_citation: Bound  # mean place of what answers cite first: 0 the first text of the prompt, 1 the last
    text_words: Bound  # of each text
    box_area: Bound  # of each box, as a share of its image
    turns_per_scene: Bound  # of each scene


class ScratchParams(_Section):
    """The shape of a Qwen2-VL with random weights. A hub model brings its own and ignores this."""

    vocab_size: int = Field(ge=300)
    hidden_size: int = Field(ge=32)
    intermediate_size: int = Field(ge=32)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    text_init: float = Field(gt=0)  # standard deviation of language weights that circuits.py does not set
    vision_init: float = Field(gt=0)
    vision_depth: int = Field(ge=1)
    vision_width: int = Field(ge=32)
    vision_heads: int = Field(ge=1)
    tie_word_embeddings: bool
    rope_theta: float = Field(gt=1)
    # Rotary pairs of a head that count time, rows and columns, from the highest frequency down.
    mrope_section: tuple[int, int, int]

    @model_validator(mode="after")
    def _sections_fill_a_head(self) -> Self:
        pairs = self.hidden_size // self.heads // 2
        if min(self.mrope_section) < 1 or sum(self.mrope_section) != pairs:
            raise ValueError(
                f"mrope_section needs three numbers from 1 up that add to {pairs}, the rotary pairs of a head"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 4:
            raise ValueError("hidden_size / heads must be a multiple of 4")
        if self.heads % self.kv_heads:
            raise ValueError("kv_heads must divide heads")
        if self.vision_width % self.vision_heads or (self.vision_width // self.vision_heads) % 4:
            raise ValueError("vision_width / vision_heads must be a multiple of 4")
        return self


class ModelParams(_Section):
    """What RCVIT starts from."""

    base: str  # "tiny", "scratch", or a hub id or folder of a Qwen2-VL checkpoint
    revision: str | None  # commit of a hub model
    min_pixels: int = Field(ge=784)  # of an image after resizing; 784 is one visual token
    max_pixels: int = Field(ge=784)
    scratch: ScratchParams

    @model_validator(mode="after")
    def _pixels_in_order(self) -> Self:
        if self.min_pixels > self.max_pixels:
            raise ValueError("min_pixels is larger than max_pixels")
        return self


class LearningRates(_Section):
    """The rate of each part at its highest; null freezes the part."""

    vision: float | None = Field(gt=0)  # the tower
    merger: float | None = Field(gt=0)  # from the tower's patches to image tokens
    language: float | None = Field(gt=0)

    @model_validator(mode="after")
    def _something_learns(self) -> Self:
        if not any((self.vision, self.merger, self.language)):
            raise ValueError("vision, merger and language are all null: nothing would be trained")
        return self


class LoraParams(_Section):
    """Low-rank adapters on the language model's linear layers (Hu et al., arXiv 2106.09685)."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)  # an adapter's output counts alpha / rank times


class TrainingParams(_Section):
    """RCVIT. The world size changes the result, so it stands here."""

    world_size: int = Field(ge=1)
    deepspeed: str = Field(pattern=r"^[a-z0-9_]+$")  # name of a file in infra/deepspeed
    sequence_tokens: int = Field(ge=64)  # budget of a packed sequence; a longer sample is dropped and counted
    micro_batch_size: int = Field(ge=1)  # sequences per rank and forward pass
    gradient_accumulation: int = Field(ge=1)
    steps: int = Field(ge=0)  # optimizer steps; 0 exports the untrained model
    optimizer: Literal["adamw", "muon"]
    learning_rates: LearningRates
    lora: LoraParams | None  # null trains all of the language model
    warmup_steps: int = Field(ge=0)
    decay_share: float = Field(ge=0, le=1)  # of the steps after the warm-up; over these the rates fall to 0
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    checkpoint_every: int = Field(ge=1)  # steps
    keep_checkpoints: int = Field(ge=2)
    bf16: bool
    gradient_checkpointing: bool

    @model_validator(mode="after")
    def _matrices_stay_whole(self) -> Self:
        if self.optimizer == "muon" and self.deepspeed != "zero0":
            raise ValueError("optimizer muon needs deepspeed zero0: the others cut matrices into pieces")
        return self

    @model_validator(mode="after")
    def _adapters_learn(self) -> Self:
        if self.lora and self.learning_rates.language is None:
            raise ValueError("lora needs learning_rates.language, the rate of its adapters")
        return self


class EvaluationParams(_Section):
    """RC&P-Bench: greedy decoding and bootstrap intervals over images."""

    batch_size: int = Field(ge=1)
    max_new_tokens: int = Field(ge=1)
    bootstrap_resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    report_scenes: int = Field(ge=1)  # scenes drawn in the report


class GateParams(_Section):
    """The staging gate: the lower interval bound of each named metric must reach its value."""

    staging: dict[str, float] = Field(min_length=1)


class Params(_Section):
    """A whole profile."""

    seed: int = Field(ge=0)
    source: SourceParams
    generation: GenerationParams
    llm: LlmParams
    validation: ValidationParams
    model: ModelParams
    training: TrainingParams
    evaluation: EvaluationParams
    gate: GateParams


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        ParamsError: with every mistake of the file at once.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist", hint="`rcvit params use tiny` writes one") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} is not YAML: {error}", hint="repair the file at that line") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        mistakes = [
            f"  {'.'.join(str(part) for part in mistake['loc']) or '(file)'}: "
            f"{mistake['msg']} (found: {_shown(mistake['input'])})"
            for mistake in error.errors()
        ]
        raise ParamsError(
            f"{path} has {len(mistakes)} mistake(s):\n" + "\n".join(mistakes),
            hint="edit the file; the keys with their meaning are in components/params.py",
        ) from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def flat_params(params: Params) -> dict[str, str]:
    """Every value by its dotted name, such as training.steps."""
    flat: dict[str, str] = {}

    def walk(node: dict[str, Any], prefix: str) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            else:
                flat[f"{prefix}{name}"] = str(value)

    walk(params.model_dump(), "")
    return flat


def differences(old: Params, new: Params) -> list[str]:
    """One line per value that differs: `training.steps: 400 -> 800`."""
    before, after = flat_params(old), flat_params(new)
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def params_digest(params: Params) -> str:
    """SHA-256 of the values: comments and the order of keys do not matter."""
    return hashlib.sha256(params.model_dump_json().encode()).hexdigest()
