"""One suite for all methods: each is trained, resumed, evaluated, drawn and exported alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import infoae
from infoae.category_model import CategoryModel
from infoae.config import Config, Weights, recipes
from infoae.config.methods import METHODS, methods_of
from infoae.data import ImageSet
from infoae.deploy import Classifier
from infoae.deploy.bundle import Bundle
from infoae.deploy.export import export_run
from infoae.deploy.generator import Generator
from infoae.deploy.graphs import missing
from infoae.distributed.collectives import Share
from infoae.errors import InfoAEError, UsageError
from infoae.evaluation.evaluate import evaluate_run
from infoae.evaluation.figures import draw_all
from infoae.methods import registry, schedules
from infoae.methods.schedules import schedule_of
from infoae.model import InfoAE
from infoae.step import Step
from infoae.trainer import Trainer
from tests.helpers.commands import invoke
from tests.helpers.methods import RECIPES, tiny, tiny_config_of
from tests.helpers.models import sides_of

CPU = torch.device("cpu")


def stepping(config: Config) -> Step:
    torch.manual_seed(0)
    return Step(registry.method_of(config).build(config), config, CPU, torch.float32)


def losses_of(config: Config, images: torch.Tensor) -> dict[str, torch.Tensor]:
    step, stage = stepping(config), schedule_of(config).stages[-1]
    batch = step.draw(images, 0, stage, Share(0, len(images), len(images)))
    losses: dict[str, torch.Tensor] = step.method.compute(step.model, config, stage, batch, None).losses
    return losses


RESIDUAL = ("model.encoder=residual", "model.encoder_blocks=2")
GENERATION = ("stages.generation_epochs=1", "model.image_noise=0.3")
TRAINED = [
    *((method, ()) for method in METHODS),
    pytest.param("infoae", RESIDUAL, marks=pytest.mark.slow),
    pytest.param("infogan", GENERATION, marks=pytest.mark.slow),
]


def test_every_method_has_a_schedule_a_recipe_and_a_name() -> None:
    assert set(registry.METHODS) == set(schedules.SCHEDULES) == set(METHODS)
    for method in METHODS:
        assert recipes.load(RECIPES[method]).method == method
        assert registry.METHODS[method].build(tiny_config_of(method)).method == method


@pytest.mark.parametrize(("method", "settings"), TRAINED)
def test_it_resumes_exactly_and_is_evaluated_drawn_and_exported(
    method: str,
    settings: tuple[str, ...],
    make_trainer: Callable[..., Trainer],
    mnist: tuple[ImageSet, ImageSet],
) -> None:
    config = tiny_config_of(method, *settings)
    unbroken, stopped = make_trainer(config, "unbroken"), make_trainer(config, "stopped")
    unbroken.fit([])
    stopped.fit([], should_stop=lambda: stopped.done == 5)
    resumed = make_trainer(config, "stopped")
    resumed.resume()
    resumed.fit([])
    for kind in ("model", "average", "optimizer"):
        weights, again = (trainer.step.state().tensors[kind] for trainer in (unbroken, resumed))
        assert [name for name in weights if not torch.equal(weights[name], again[name])] == []

    run = unbroken.run
    measures = evaluate_run(run, mnist[1], "best", CPU).measures
    assert measures.labelled is not None
    assert 0.1 <= measures.labelled.accuracy <= measures.labelled.many_to_one <= 1
    assert measures.frechet_distance is not None
    model = infoae.load(run.path)
    drawn = {name for name, _ in draw_all(run, model, mnist[1])}
    assert {"samples", "losses", "confusion", "tsne"} <= drawn
    assert ("reconstructions" in drawn) == (model.no_decoder is None)

    said: list[str] = []
    bundle = export_run(run, run.path / "bundle", say=said.append).path
    images = mnist[1].images[:50]
    found = Classifier(bundle).classify(images)
    np.testing.assert_allclose(found.probabilities, model.classify(images).numpy(), atol=1e-4)
    manifest, reasons = Bundle.load(bundle).manifest, missing(model)
    assert set(manifest.files) == {"classifier", "decoder", "generator"} - set(reasons)
    assert manifest.run.config == config.settings()
    assert all(f"no {role}: {reason}" in said for role, reason in reasons.items())
    generator = Generator(bundle)
    if model.no_generator is None:
        assert generator.generate(3, 2, seed=0).shape == (2, 1, 28, 28)
    else:
        with pytest.raises(InfoAEError, match=model.no_generator):
            generator.generate(3, 2, seed=0)
    if model.no_decoder is not None:
        with pytest.raises(InfoAEError, match=model.no_decoder):
            generator.decode(np.zeros((1, model.latent_dim), np.float32))


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_has_a_weight_and_moves_the_parameters_of_one_side(
    method: str, mnist: tuple[ImageSet, ImageSet]
) -> None:
    config, images = tiny_config_of(method), torch.tensor(mnist[0].images[:20])
    losses = losses_of(config, images)
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())
    named = {name for side in registry.METHODS[method].sides(stepping(config).model, config) for name in side.losses}
    assert set(losses) <= named <= set(Weights.model_fields)
    assert named == {name for name in Weights.model_fields if method in methods_of(f"objective.weights.{name}")}

    step = stepping(config)
    sides = [{id(p) for p in side} for side in sides_of(step.model, config)]
    assert sum(map(len, sides)) == len(set().union(*sides)), "a parameter is of two sides"
    assert set().union(*sides) == {id(p) for p in step.model.parameters()}, "a parameter is of no side"
    before = {name: parameter.detach().clone() for name, parameter in step.model.named_parameters()}
    step(images, 0, schedule_of(config).stages[-1])
    still = [name for name, parameter in step.model.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_of_weight_zero_is_not_computed(method: str, mnist: tuple[ImageSet, ImageSet]) -> None:
    config, images = tiny_config_of(method), torch.tensor(mnist[0].images[:20])
    for name in losses_of(config, images):
        without = recipes.replaced(config, {f"objective.weights.{name}": 0.0}, "test")
        assert name not in losses_of(without, images)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_a_step_in_half_precision_has_the_losses_of_full_precision(
    method: str, precision: torch.dtype, mnist: tuple[ImageSet, ImageSet]
) -> None:
    config, images = tiny_config_of(method), torch.tensor(mnist[0].images[:50])
    stage, losses = schedule_of(config).stages[-1], []
    for number_format in (torch.float32, precision):
        torch.manual_seed(0)
        step = Step(registry.method_of(config).build(config), config, CPU, number_format)
        losses.append({name: loss.item() for name, loss in step(images, 0, stage).losses.items()})
    assert losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_restarts_and_seeds_are_of_every_method(method: str, tmp_path: Path) -> None:
    settings = [setting for value in tiny(method) for setting in ("--set", value)]
    arguments = ["train", "--config", RECIPES[method], *settings, "--set", "train.epochs=1", "--restarts", "2"]
    done = invoke(*arguments, "--name", "tried", "--runs", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert set(result["tried"]) == {"tried-0", "tried-1"}
    assert result["score"] == max(result["tried"].values())


@pytest.mark.parametrize("method", METHODS)
def test_images_of_a_category_are_a_function_of_noise_and_category(method: str) -> None:
    torch.manual_seed(0)
    model: CategoryModel = registry.METHODS[method].build(tiny_config_of(method))
    categories = torch.tensor([0, 3, 9])
    images = model.draw_images(categories, seed=1)
    assert images.shape == (3, 1, 28, 28)
    assert 0 <= images.min() <= images.max() <= 1
    torch.testing.assert_close(images, model.draw_images(categories, seed=1))
    torch.testing.assert_close(images[1:], model.images_of(*noise(model, 3, seed=1, rows=slice(1, 3)), categories[1:]))


@pytest.mark.parametrize("method", METHODS)
def test_what_a_model_cannot_do_says_why(method: str) -> None:
    model: CategoryModel = registry.METHODS[method].build(tiny_config_of(method))
    if model.no_decoder is not None:
        with pytest.raises(NotImplementedError, match=model.no_decoder):
            model.decode(torch.zeros(2, model.latent_dim))
    if model.no_generator is not None:
        with pytest.raises(NotImplementedError, match=model.no_generator):
            model.generate(3, 2)


def noise(model: CategoryModel, count: int, seed: int, rows: slice) -> tuple[torch.Tensor]:
    u = torch.rand(count, model.noise_dim, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return (u[rows],)


def test_infoae_load_names_the_method_of_another_run(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer(tiny_config_of("infogan"), "other")
    trainer.fit([])
    with pytest.raises(InfoAEError, match=r"other is a run of method infogan: load it with infoae\.load"):
        InfoAE.load(trainer.run.path)
    assert isinstance(infoae.load(trainer.run.path, "newest"), CategoryModel)


@pytest.mark.parametrize("method", METHODS)
def test_a_setting_of_other_methods_is_refused_with_its_methods(method: str) -> None:
    config = recipes.load(RECIPES[method])
    everything = {f"objective.weights.{name}" for name in Weights.model_fields} | {"model.num_heads", "augment.blur"}
    for key in everything:
        if method in methods_of(key):
            continue
        with pytest.raises(UsageError) as caught:
            recipes.load(RECIPES[method], [f"{key}=1"])
        assert f"method {method} does not have {key} (of {', '.join(methods_of(key))})" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert recipes.parse(recipes.dump(config), "dump") == config


@pytest.mark.parametrize("method", methods_of("model.image_noise"))
def test_noise_lies_on_all_images_that_are_judged_and_on_none_that_are_classified(method: str) -> None:
    step = stepping(tiny_config_of(method, "model.image_noise=0.5"))
    seen: list[torch.Tensor] = []
    features = step.model.encoder.features if method == "infogan" else step.model.encoder
    features.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    x = torch.full((8, 1, 28, 28), 0.25)
    batch = step.draw(x, 0, schedule_of(step.config).stages[-1], Share(0, 8, 8))
    step.method.compute(step.model, step.config, schedule_of(step.config).stages[-1], batch, None)
    real, fake = seen
    assert (real - x).std().item() == pytest.approx(0.5, rel=0.05)
    with torch.no_grad():
        smooth = step.model.generated(batch.u, torch.nn.functional.one_hot(batch.c, 10).float())
    assert (fake - smooth).std().item() == pytest.approx(0.5, rel=0.05)
    step.model.eval().classify(x)
    torch.testing.assert_close(seen[-1], x)


@pytest.mark.parametrize("architecture", ["dcgan", "infogan"])
def test_infogan_begins_with_a_category_that_moves_its_generator_as_much_as_all_noise_does(architecture: str) -> None:
    torch.manual_seed(0)
    settings = (f"model.architecture={architecture}", "model.width=32", "model.feature_dim=512")
    model = registry.METHODS["infogan"].build(tiny_config_of("infogan", *settings))
    inputs = torch.cat([torch.rand(4000, model.noise_dim) * 2 - 1, torch.eye(10).repeat(400, 1)], 1)
    weight = next(layer.weight for layer in model.generator.modules() if isinstance(layer, torch.nn.Linear)).detach()
    of_noise, of_category = (
        part @ rows
        for part, rows in zip(
            inputs.split([model.noise_dim, 10], 1), weight.T.split([model.noise_dim, 10]), strict=True
        )
    )
    assert of_category.square().mean().item() == pytest.approx(of_noise.square().mean().item(), rel=0.1)


def test_generation_must_leave_epochs_to_find_categories() -> None:
    expected = r"stages\.generation_epochs 2 leave none of 2 train\.epochs to find categories"
    with pytest.raises(UsageError, match=expected):
        tiny_config_of("infogan", "stages.generation_epochs=2", "train.epochs=2")


def test_an_unknown_method_lists_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        recipes.load("smoke", ["method=vae"])
    assert all(method in str(caught.value) for method in (*METHODS, "given 'vae'"))


def test_the_number_of_categories_is_found_by_infoae_alone() -> None:
    with pytest.raises(UsageError, match=r"method aae cannot find model\.num_categories \(infoae can\): give a number"):
        recipes.load("aae", ["model.num_categories=auto"])


def test_a_bundle_needs_no_more_than_onnxruntime(make_trainer: Callable[..., Trainer]) -> None:
    """PixelGAN-AE's loop over pixels is in the graph itself."""
    trainer = make_trainer(tiny_config_of("pixelgan-ae"), "pixels")
    trainer.fit([])
    bundle = export_run(trainer.run, trainer.run.path / "bundle").path
    session = onnxruntime.InferenceSession(bundle / "generator.onnx")
    model = infoae.load(trainer.run.path)
    u = torch.rand(2, 784, generator=torch.Generator().manual_seed(5)) * 2 - 1
    categories = torch.tensor([1, 8])
    (images,) = session.run(["images"], {"noise": u.numpy(), "category": categories.numpy()})
    assert (torch.from_numpy(images) != model.images_of(u, categories)).float().mean() < 0.01
