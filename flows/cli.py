"""The command line: `rcvit`. Heavy imports are made by the command that needs them."""

import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from components.errors import DataError, ParamsError, RcvitError, SettingsError
from components.git import find_checkout
from components.settings import Settings, load_settings

app = typer.Typer(
    help="Retrain, judge and promote RC-Qwen2-VL models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # the locals it shows may hold a secret
)
params_app = typer.Typer(help="The params of this checkout.", no_args_is_help=True)
data_app = typer.Typer(help="Outside photos in, RCMU data out.", no_args_is_help=True)
Profile = Annotated[str | None, typer.Option(help="A name of infra/profiles or a path; else params.yaml.")]

app.add_typer(params_app, name="params")
app.add_typer(data_app, name="data")


@app.command()
def run(profile: Profile = None) -> None:
    """Data, validation, training, benchmark, registration and the staging gate."""
    from components.registry import Registry
    from components.workspace import describe_run, is_ready
    from flows import dvc
    from flows.screens import show_outcome

    checkout = _checkout()
    settings = load_settings(checkout)
    this = describe_run(checkout, profile, settings)
    state = "dirty checkout, in place" if this.dirty else f"commit {this.commit[:10]}"
    typer.echo(f"run {this.name} ({state}) in {this.folder}", err=True)
    version = Registry(settings).find(this.digest) if is_ready(this) else None
    if version is not None and version.is_gated and dvc.unchanged(this):
        from components.stages import STAGES

        for stage in STAGES:
            typer.echo(f"stage {stage} skipped: nothing changed", err=True)
        show_outcome(this, version)
        return
    with ExitStack() as stack:
        if settings.prefect_api_url:
            os.environ["PREFECT_API_URL"] = settings.prefect_api_url
        else:
            from flows.server import prefect_server

            typer.echo("starting a Prefect server for this run", err=True)
            stack.enter_context(prefect_server(settings.home))
        # Prefect's log is on its pages; in the terminal it would show an expected error as a traceback.
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        from prefect.logging.handlers import APILogHandler

        from flows.retrain import retrain

        stack.callback(APILogHandler().flush)  # before the server ends
        number = retrain(profile)
    show_outcome(this, Registry(settings).get(number))


@params_app.command("use")
def params_use(profile: Annotated[str, typer.Argument(help="A name of infra/profiles or a path.")]) -> None:
    """Write a profile to params.yaml, for a plain `dvc repro`."""
    from components.params import differences, load_params
    from components.workspace import profile_file

    checkout = _checkout()
    source = profile_file(checkout, profile)
    chosen = load_params(source)
    try:
        changes = differences(load_params(checkout / "params.yaml"), chosen)
    except ParamsError:  # what is overwritten need not be whole
        changes = ["params.yaml was broken and is written anew"]
    if source != checkout / "params.yaml":
        shutil.copyfile(source, checkout / "params.yaml")
    for line in changes or ["no value changes"]:
        typer.echo(f"  {line}")
    typer.echo(f"params.yaml is now {source}")
    typer.echo("next: dvc repro, or commit it and `rcvit run`")


@data_app.command("import")
def data_import(
    path: Annotated[Path, typer.Argument(help="A folder with annotations and images, or the annotations.")],
    kind: Annotated[
        str, typer.Option(help="coco, refcoco, flickr30k_entities, visual_genome or toloka.")
    ] = "coco",
    name: Annotated[str | None, typer.Option(help="Its name under data/; else the folder's.")] = None,
    skip_broken: Annotated[bool, typer.Option(help="Leave broken records out, and list them.")] = False,
) -> None:
    """Check photos with boxes and bring them into the checkout, under DVC."""
    from typing import get_args

    from components.params import PhotoKind
    from components.sources import import_photos

    known = {str(value): value for value in get_args(PhotoKind)}
    if kind not in known:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(known)}", param_hint="--kind")
    annotations = import_photos(
        path, kind=known[kind], name=name, skip_broken=skip_broken, workspace=_checkout()
    )
    imported = annotations.parts[1]
    typer.echo(f"data/{imported} is in, under DVC. Next:")
    typer.echo(f"  git add data && git commit -m 'Import {imported}'")
    broken = ", source.skip_broken: true" if skip_broken else ""
    typer.echo(
        f"  source.kind: {kind}, source.annotations: {annotations}{broken}   (see infra/profiles/photos.yaml)"
    )
    typer.echo("  rcvit run --profile photos")


@data_app.command("generate")
def data_generate(
    profile: Profile = None,
    dask: Annotated[int | None, typer.Option(min=1, help="Workers of a Dask cluster, started here.")] = None,
    max_usd: Annotated[
        float | None, typer.Option(help="What the LLM may cost for this data, all restarts together.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what the LLM would cost, and ask it nothing.")
    ] = False,
) -> None:
    """Make and check the data of a run, and nothing else: source, generate, validate."""
    from components.workspace import describe_run
    from flows.generate import estimate as estimate_cost
    from flows.generate import generate

    checkout = _checkout()
    if max_usd is not None:
        os.environ["RCVIT_LLM_MAX_USD"] = str(max_usd)  # for the stages
    settings = load_settings(checkout)
    this = describe_run(checkout, profile, settings)
    if estimate:
        for line in estimate_cost(this, settings):
            typer.echo(line)
        return
    generate(this, settings, dask_workers=dask)
    typer.echo(f"data       {this.folder / 'outs'}")
    typer.echo(f"data docs  {this.folder / '.rcvit/data_docs/index.html'}")
    typer.echo(f"next: rcvit data show{f' --profile {profile}' if profile else ''}")


@data_app.command("costs")
def data_costs() -> None:
    """What the LLM has cost so far: calls, tokens and US dollars of each data set."""
    from components.llm import Journal, journal_of

    path = journal_of(_settings())
    for line in Journal(path).ledger() if path.exists() else ():
        usd = "unknown: no prices in the params" if line.usd is None else f"${line.usd:.2f}"
        guessed = f", {line.estimated} calls by characters" if line.estimated else ""
        typer.echo(
            f"data set {line.job}  {line.model}  {line.calls} calls, {line.answered} of them answered  "
            f"{line.input_tokens} tokens in, {line.output_tokens} out{guessed}  {usd}"
        )
    typer.echo(f"journal  {path}", err=True)


@data_app.command("show")
def data_show(
    profile: Profile = None,
    scenes: Annotated[int, typer.Option(min=1, help="Scenes of each split.")] = 12,
) -> None:
    """A page of samples of a run's data: boxes drawn, texts, turns, citations coloured."""
    from components.generation import write_samples
    from components.params import load_params
    from components.workspace import describe_run

    checkout = _checkout()
    this = describe_run(checkout, profile, load_settings(checkout))
    outs, page = this.folder / "outs", this.folder / ".rcvit/samples.html"
    seed = load_params(this.params_file).seed
    write_samples(outs / "scenes", outs / "turns", number=scenes, seed=seed, page=page)
    typer.echo(f"samples  {page}")


@data_app.command("publish")
def data_publish(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    profile: Profile = None,
) -> None:
    """A run's data as a folder that `datasets.load_dataset` reads, with a dataset card."""
    from components.generation import publish_data
    from components.params import load_params
    from components.workspace import describe_run

    checkout = _checkout()
    this = describe_run(checkout, profile, load_settings(checkout))
    outs, version = this.folder / "outs", f"{this.commit}{' and changes' if this.dirty else ''}"
    params = load_params(this.params_file)
    publish_data(outs / "scenes", outs / "turns", params=params, version=version, folder=folder)
    typer.echo(f"published  {folder}: its README.md is the card")


@data_app.command("items")
def data_items(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    profile: Profile = None,
    objects: Annotated[
        Path | None, typer.Option(help="A folder with reference photos: annotations.json with `concepts`.")
    ] = None,
) -> None:
    """RC&P-Bench's multiple-choice items of a run's benchmark, with the objects' reference photos."""
    from components.evaluation.items import write_items
    from components.params import load_params
    from components.sources.personal_objects import read_personal_objects
    from components.workspace import describe_run

    checkout = _checkout()
    this = describe_run(checkout, profile, load_settings(checkout))
    made = write_items(
        this.folder / "outs/scenes",
        this.folder / "outs/turns",
        objects=read_personal_objects(objects) if objects else (),
        seed=load_params(this.params_file).seed,
        folder=folder,
    )
    typer.echo(f"items  {len(made.items)} in {folder}")
    for why, number in made.left_out.items():
        typer.echo(f"  left out: {number} of {why}")


@app.command()
def ask(
    photo: Path,
    question: str,
    regions: Annotated[
        Path, typer.Option(help='JSON: [{"label", "bbox": [x, y, width, height] in pixels, "text"}, ...]')
    ],
    alias: Annotated[str | None, typer.Option(help="Else staging, or candidate where none is there.")] = None,
) -> None:
    """The model of an alias answers a question about a photo."""
    from components.registry import MODEL_NAME, Registry
    from components.serving.request import read_request

    settings = _settings()
    try:
        image, listed = photo.read_bytes(), json.loads(regions.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the request: {error}", hint="`rcvit ask --help` shows the form"
        ) from error
    if not isinstance(listed, list):
        raise DataError(f"{regions} holds no list of regions", hint="`rcvit ask --help` shows the form")
    read_request(image, listed, question, where=str(regions))  # a broken request needs no model
    number, found = Registry(settings).number_of(alias)
    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(f"models:/{MODEL_NAME}/{number}")
    columns = ("label", "bbox", "text")  # the signature's; what else a file says about a region is left out
    asked = [
        {name: region[name] if name == "bbox" else str(region[name]) for name in columns} for region in listed
    ]
    row = {"image": image, "regions": asked, "question": question}
    answer = model.predict(pd.DataFrame([row])).iloc[0]
    typer.echo(f"{MODEL_NAME} version {number} ({found}):", err=True)
    typer.echo(answer["answer"])
    typer.echo(f"cites: {', '.join(f'[{k}]' for k in answer['citations']) or 'nothing'}", err=True)


@app.command()
def status() -> None:
    """All versions with their aliases, scores and verdicts."""
    from components.registry import Registry
    from flows.screens import show_versions

    show_versions(Registry(_settings()).versions())


@app.command()
def promote(
    version: str,
    dry_run: Annotated[bool, typer.Option(help="Judge, and leave the alias where it is.")] = False,
) -> None:
    """Put a version before the staging gate; exit code 1 when it is refused."""
    from components.registry import STAGING, Registry

    registry = Registry(_settings())
    found = registry.get(version)
    verdict = found.verdict if dry_run else registry.promote(found)
    for line in verdict.lines:
        typer.echo(line)
    if not verdict.passed:
        typer.echo(f"refused: version {version} does not get the alias {STAGING}")
        raise typer.Exit(1)
    typer.echo(f"passed: {STAGING} {'would move' if dry_run else 'points'} to version {version}")


@app.command("ablate")
def ablate_run(
    profile: Profile = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings side by side, each on one rank.")] = 1,
) -> None:
    """RCVIT without boxes, texts or image, on the data of a finished run: what the method owes to each."""
    from components.ablation import ablate
    from components.workspace import describe_run

    checkout = _checkout()
    settings = load_settings(checkout)
    folder = ablate(describe_run(checkout, profile, settings), settings, jobs=jobs)
    typer.echo((folder / "ablation.md").read_text(encoding="utf-8"))
    typer.echo(f"picture  {folder / 'ablation.png'}")


@app.command()
def doctor() -> None:
    """Versions, disk, tools and settings, and how to fix what is wrong."""
    from components.doctor import run_doctor

    raise typer.Exit(run_doctor(_checkout()))


@app.command()
def ui() -> None:
    """MLflow's and Prefect's pages on loopback, until Ctrl-C."""
    from flows.server import mlflow_server, prefect_server

    settings = _settings()
    with ExitStack() as stack:
        mlflow_url, artifacts = settings.tracking_uri, settings.artifact_root
        if artifacts is not None:  # the tracking URI is a database, not a server with pages of its own
            mlflow_url = stack.enter_context(mlflow_server(mlflow_url, artifacts, settings.home))
        api = settings.prefect_api_url or stack.enter_context(prefect_server(settings.home))
        typer.echo(f"MLflow   {mlflow_url}")
        typer.echo(f"Prefect  {api.removesuffix('/api')}")
        typer.echo("Ctrl-C ends both")
        try:
            import threading

            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("ended")


def _checkout() -> Path:
    """The root of the checkout that the command is called in."""
    root = find_checkout(Path.cwd())
    if not (root / "dvc.yaml").exists():
        raise SettingsError(f"{root} is no checkout of rcvit: it has no dvc.yaml", hint="cd into your clone")
    return root


def _settings() -> Settings:
    return load_settings(Path.cwd())


def main() -> None:
    """Entry point: an expected error is its message and cure, never a traceback."""
    try:
        app()
    except RcvitError as error:
        typer.echo(f"\nrcvit: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
