"""The LLM route: shards of context sets and turns that an LLM wrote, in one process, bound by the network.

Every answer is kept by the client, so a killed run asks nothing twice, and the shards are the same bytes for
every order in which answers arrive.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from components.generation.filters import Filtered, Sieve
from components.generation.llm import prompts
from components.generation.llm.blocks import Description, Line, make_turns
from components.generation.llm.checks import Drops, at_the_door, claims_of
from components.generation.llm.pool import Looks, Pool, Told, look, make_pools
from components.generation.shard import Counts, Shard, keep_counts, stream
from components.llm import Asker, Endpoint, SetAside
from components.params import LlmParams
from components.rcmu import ContextRegion, ContextSet, Scene, Split, Turn, normalise, special_token_strings
from components.rcmu.models import Frozen
from components.rcmu.tables import ShardWriter, read_scene_shard, split_of_shard


class Made(Frozen):
    """What a shard holds, in the order of its files."""

    contexts: tuple[ContextSet, ...]
    turns: tuple[Turn, ...]
    counts: Counts


class _Set(Frozen):
    """One context set on its way to turns."""

    scene: Scene
    context: ContextSet
    lines: tuple[Line, ...]


def write_llm_shards(
    shards: Sequence[Shard], endpoint: Endpoint, params: LlmParams, *, seed: int, job: str
) -> dict[str, Filtered]:
    """Write those of the shards that are not whole; what the pools of texts have dropped.

    Args:
        shards: of both splits: the pools are made for all of them.
        endpoint: who is asked.
        params: the model, and how many texts.
        seed: as of `write_shard`.
        job: what the budget counts calls for.

    Raises:
        EndpointError: when the endpoint does not answer.
        BudgetError: when the next call could cost more than is left.
        SettingsError: when the endpoint refuses.
        ValueError: for a row that is no scene, naming file and row.
    """
    # It costs a second to import.
    from components.llm.client import Llm

    async def write() -> dict[str, Filtered]:
        async with Llm(endpoint, params, seed=seed, job=job) as llm:
            pools, drops = await pools_of(shards, llm, params, seed=seed)
            for shard in shards:
                if not shard.is_whole():
                    _write(shard, await make_shard(shard, pools, llm))
            return drops.found()

    return asyncio.run(write())


async def pools_of(
    shards: Sequence[Shard], asker: Asker, params: LlmParams, *, seed: int
) -> tuple[dict[Split, Pool], Drops]:
    """The pools of texts of both splits: as many texts of a label as the params say or a scene needs."""
    wanted: dict[Split, dict[str, int]] = {split: {} for split in Split}
    for shard in shards:
        own = wanted[split_of_shard(shard.scenes)]
        for scene in read_scene_shard(shard.scenes):
            for label, number in Counter(region.label for region in scene.regions).items():
                own[label] = max(own.get(label, params.texts_per_label), number)
    drops = Drops()
    return await make_pools(asker, wanted, seed=seed, drops=drops), drops


async def make_shard(shard: Shard, pools: Mapping[Split, Pool], asker: Asker) -> Made:
    """All that goes into the files of one shard."""
    split = split_of_shard(shard.scenes)
    pool, drops = pools[split], Drops()
    # The pictures are not needed here, and would fill the memory.
    scenes = [scene.model_copy(update={"image": b""}) for scene in read_scene_shard(shard.scenes)]
    expressions = sorted({(region.label, region.expression) for scene in scenes for region in scene.regions})
    looked = await asyncio.gather(*(look(asker, *expression) for expression in expressions))
    looks: dict[tuple[str, str], Looks] = {}
    for expression, (found, own) in zip(expressions, looked, strict=True):
        looks[expression] = found
        drops.merge(own.found())
    sets = [
        made
        for scene in scenes
        for number in range(shard.params.context_sets)
        if (made := _match(scene, number, pool, looks, seed=shard.seed, drops=drops))
    ]
    described = await asyncio.gather(*(_describe(asker, made) for made in sets))
    turns: list[Turn] = []
    sieve = Sieve()
    for made, (description, own) in zip(sets, described, strict=True):
        drops.merge(own.found())
        rng = stream(shard.seed, "turns", made.context.context_id)
        number = shard.params.questions_per_task
        asked = make_turns(
            made.scene, made.context, made.lines, description, pool, per_task=number, rng=rng, drops=drops
        )
        turns += sieve.passing(made.scene, made.context, asked)
    counts = Counts(
        split=split,
        scenes=len(scenes),
        context_sets=len(sets),
        turns=Counter(turn.task for turn in turns),
        filtered=sieve.found,
        left_out=sieve.left_out,
        visible_facts={},
        dropped=drops.found(),
    )
    return Made(contexts=tuple(made.context for made in sets), turns=tuple(turns), counts=counts)


def _match(
    scene: Scene,
    number: int,
    pool: Pool,
    looks: Mapping[tuple[str, str], Looks],
    *,
    seed: int,
    drops: Drops,
) -> _Set | None:
    """Step 1: texts of the pool for the boxes of a scene by label, each at most once, in random order."""
    context_id = f"{scene.scene_id}/c{number}"
    rng = stream(seed, "texts", context_id)
    order = rng.sample(range(len(scene.regions)), len(scene.regions))
    left = {label: rng.sample(pool[label], len(pool[label])) for label in sorted(_labels(scene))}
    told: list[tuple[int, Told]] = []
    for region in order:
        label = scene.regions[region].label
        if left[label]:
            told.append((region, left[label].pop()))
        else:
            drops.add("box_without_text", f"{context_id}: no text is left for {label!r}")
    if not told:
        return None
    lines = tuple(_lines(scene, told, looks))
    context = ContextSet(
        context_id=context_id,
        scene_id=scene.scene_id,
        split=scene.split,
        regions=tuple(ContextRegion(region=region, text=own.text, facts=own.facts) for region, own in told),
    )
    return _Set(scene=scene, context=context, lines=lines)


def _labels(scene: Scene) -> set[str]:
    return {region.label for region in scene.regions}


def _lines(
    scene: Scene, told: Sequence[tuple[int, Told]], looks: Mapping[tuple[str, str], Looks]
) -> Iterator[Line]:
    for k, (region, own) in enumerate(told, start=1):
        seen = scene.regions[region]
        yield Line(k=k, seen=seen, told=own, looks=looks[seen.label, seen.expression])


async def _describe(asker: Asker, made: _Set) -> tuple[Description | None, Drops]:
    """Step 6: the description, then its citations."""
    drops, where = Drops(), made.context.context_id
    lines = [
        prompts.Line(label=line.seen.label, expression=line.seen.expression, text=line.told.text)
        for line in made.lines
    ]
    first = await asker.ask(prompts.description_of(made.scene.caption, lines))
    if isinstance(first, SetAside):
        drops.set_aside(first, where)
        return None, drops
    description = at_the_door(first.description)
    second = await asker.ask(prompts.citations_in(description, lines))
    if isinstance(second, SetAside):
        drops.set_aside(second, where)
        return None, drops
    cited = normalise(second.cited)
    if special_token_strings(cited):
        drops.add("special_token", f"{where}: {cited}")
        return None, drops
    claims = claims_of(cited, description, [line.told.facts for line in made.lines])
    if claims is None:
        drops.add("citation_wrong", f"{where}: {cited}")
        return None, drops
    return Description(cited=cited, claims=claims), drops


def _write(shard: Shard, made: Made) -> None:
    with ShardWriter(shard.contexts, "contexts") as contexts, ShardWriter(shard.turns, "turns") as turns:
        for context in made.contexts:
            contexts.write(context)
        for turn in made.turns:
            turns.write(turn)
    keep_counts(shard, made.counts)
