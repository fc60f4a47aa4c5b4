"""Training on features: they lie beside their pictures, decide who is a neighbour, and are in the exported graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import infoae
from infoae import kept, objective
from infoae.config import Config, recipes
from infoae.data.decode import read_image
from infoae.deploy import Classifier
from infoae.errors import InfoAEError, UsageError
from infoae.evaluation import evaluate
from infoae.loading import load_both
from infoae.methods.registry import method_of
from infoae.model import InfoAE
from infoae.objective import Batch
from infoae.planning import checked
from infoae.runs.run import Run
from infoae.trainer import Trainer
from tests.helpers.commands import call
from tests.helpers.encoders import by_hand, write_encoder
from tests.helpers.inputs import PIXELS
from tests.helpers.settings import small_mnist

pytestmark = pytest.mark.filterwarnings("ignore::infoae.errors.Notice")

SMALL = (
    "model.width=4",
    "model.hidden_dim=16",
    "model.generator_hidden_dim=16",
    "model.latent_dim=8",
    "model.num_categories=3",
    "model.num_over_categories=6",
    "model.num_heads=3",
    "train.batch_size=50",
    "train.micro_batch_size=50",
    "train.min_steps_per_epoch=1",
    "train.epochs=4",
    "train.adversarial_fraction=1",
    "train.precision=fp32",
    "train.device=cpu",
    "stages.mutual_information_epochs=2",
    "stages.pseudo_label_epochs=1",
    "optim.decay_epochs=1",
    "neighbours.merging_count=5",
    "pseudo_labels.anchor_hops=1",
)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "tiny.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """120 colour JPEGs of several sizes: of three colours, with noise; and a file that cannot be read among them."""
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(120):
        colour = np.eye(3)[number % 3] * 180
        size = (40 + number % 7, 60 - number % 11, 3)
        pixels = (colour + random.normal(40, 20, size)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number:03}.jpg", quality=95)
    (tmp_path / "photos" / "050b.jpg").write_bytes(b"\xff\xd8 no picture")
    return tmp_path / "photos"


def config_of(features: Path, *settings: str) -> Config:
    return recipes.load("photos-features", [*SMALL, recipes.override("features.encoder", features), *settings])


def of_photos(features: Path, photos: Path, *settings: str) -> Config:
    return config_of(features, "data.name=files", recipes.override("data.root", photos), *settings)


def of_mnist(features: Path, *settings: str) -> Config:
    return config_of(features, "data.name=shards", recipes.override("data.root", small_mnist()), *settings)


def decoded(path: Path) -> NDArray[np.uint8]:
    return read_image(path, 3, 32, 32)


def small(pixels: NDArray[np.uint8], size: int = 16) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1).tobytes()


def test_features_of_pictures_lie_beside_the_pictures_that_they_are_of(encoder: Path, photos: Path) -> None:
    train, test = load_both(of_photos(encoder, photos, "model.image_size=16", "data.held_out=10"))
    assert train.features is not None
    assert train.held_out is not None
    assert train.held_out_features is not None
    assert test.features is not None
    assert (len(train), len(train.held_out), len(test)) == (98, 10, 12)
    pictures = [decoded(path) for path in sorted(photos.glob("???.jpg"))]
    expected = dict(zip(map(small, pictures), by_hand(np.stack(pictures)), strict=True))
    assert len(expected) == 120
    for images, features in (
        (train.images[:], train.features),
        (train.held_out, train.held_out_features),
        (test.images, test.features),
    ):
        assert len(images) == len(features)
        for image, row in zip(images, features, strict=True):
            np.testing.assert_allclose(row, expected[image.tobytes()], rtol=1e-4, atol=1e-4)


def test_rows_of_a_file_are_of_the_inputs_in_their_order(photos: Path, tmp_path: Path) -> None:
    paths = sorted(photos.iterdir())
    rows = np.random.default_rng(0).normal(size=(121, 5)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    train, test = load_both(of_photos(tmp_path / "rows.npy", photos, "model.image_size=16"))
    assert train.features is not None
    assert test.features is not None
    expected = {}
    for path, row in zip(paths, rows, strict=True):
        if path.name != "050b.jpg":
            expected[read_image(path, 3, 16, 16).tobytes()] = row
    for image, row in zip([*train.images[:], *test.images], [*train.features, *test.features], strict=True):
        np.testing.assert_array_equal(row, expected[image.tobytes()])
    for count, message in ((120, "120 rows"), (122, "122 rows for 121 pictures")):
        np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(count, 5)))
        with pytest.raises(UsageError, match=message):
            load_both(of_photos(tmp_path / "rows.npy", photos, "model.image_size=16"))


def test_features_of_stored_images_are_computed_once(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = load_both(of_mnist(encoder, "data.held_out=40"))
    assert train.held_out is not None
    as_seen = []
    for image in [*train.images[:], *train.held_out, *test.images]:
        grey = Image.fromarray(image[0]).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        as_seen.append(np.asarray(grey).transpose(2, 0, 1))
    found = np.concatenate([np.asarray(each) for each in (train.features, train.held_out_features, test.features)])
    np.testing.assert_allclose(found, by_hand(np.stack(as_seen)), rtol=1e-4, atol=1e-4)
    assert {entry.source for entry in kept.entries()} == {f"features of shards in {small_mnist()}"}
    monkeypatch.setattr("infoae.features.encoder.FrozenEncoder.features", None)
    again, _ = load_both(of_mnist(encoder, "data.held_out=40"))
    np.testing.assert_array_equal(np.asarray(again.features), np.asarray(train.features))


def test_rows_of_a_file_are_of_training_images_then_of_test_images(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(800, 5)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    train, test = load_both(of_mnist(tmp_path / "rows.npy", "data.held_out=40"))
    np.testing.assert_array_equal(np.asarray(train.features), rows[:260])
    np.testing.assert_array_equal(np.asarray(train.held_out_features), rows[260:300])
    np.testing.assert_array_equal(np.asarray(test.features), rows[300:])
    limited, test = load_both(of_mnist(tmp_path / "rows.npy", "data.limit=100"))
    np.testing.assert_array_equal(np.asarray(limited.features), rows[:100])
    np.testing.assert_array_equal(np.asarray(test.features), rows[300:])
    np.save(tmp_path / "rows.npy", rows[:-1])
    with pytest.raises(UsageError, match=r"799 rows: .* 300 images to train on and then 500 to test on"):
        load_both(of_mnist(tmp_path / "rows.npy"))


def trainer_of(config: Config, run: Run) -> Trainer:
    plan = checked(config, run.path.parent, "test", None, None)
    return Trainer(run, plan.config, plan.train, plan.device, torch.float32)


def new_run(path: Path) -> Run:
    path.mkdir(parents=True)
    return Run(path)


def test_a_run_on_features_resumes_bit_equal_and_scores_by_nearest_neighbours(encoder: Path, tmp_path: Path) -> None:
    config = of_mnist(encoder)
    unbroken = trainer_of(config, new_run(tmp_path / "runs" / "unbroken"))
    assert unbroken.fit([])
    stopped = trainer_of(config, new_run(tmp_path / "runs" / "stopped"))
    assert not stopped.fit([], should_stop=lambda: stopped.done == 15)
    resumed = trainer_of(config, stopped.run)
    resumed.resume()
    assert resumed.fit([])
    expected, found = (
        {f"{group} {name}": each for group, tensors in state.items() for name, each in tensors.items()}
        for state in (unbroken.step.state().tensors, resumed.step.state().tensors)
    )
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []

    model, features = unbroken.step.evaluated_model(), np.asarray(unbroken.features, np.float64)
    centred = features - features.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit.T - 2 * np.eye(len(unit))
    nearest = cosine.argmax(1)
    answers = model.classify(unbroken.inputs[:]).double().numpy()
    joint = answers.T @ answers[nearest] / len(answers)
    joint = (joint + joint.T) / 2
    product = joint.sum(0)[None] * joint.sum(1)[:, None]
    score = float((joint * np.log(joint / product)).sum())
    name = "evaluation/mutual_information"
    *_, last = (line[name] for line in unbroken.run.metrics() if name in line)
    assert last == pytest.approx(score, abs=1e-5)
    assert unbroken.partners.pairs is not None
    np.testing.assert_array_equal(unbroken.partners.pairs.nearest[:, 0], nearest)


def test_pictures_and_their_features_get_the_same_answers(encoder: Path) -> None:
    plan = checked(of_mnist(encoder), Path("runs"), "test", None, None)
    assert plan.config.features.dim == 12
    torch.manual_seed(0)
    model = method_of(plan.config).build(plan.config).eval()
    images, inputs = plan.test.images[:50], plan.test.inputs[:50]
    torch.testing.assert_close(model.encode(images), model.encode(inputs), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.encode(images[:, 0] / np.float32(255)), model.encode(inputs), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"features must be \(B, 12\)"):
        model.encode(np.zeros((3, 5), np.float32))


def test_from_photographs_to_a_bundle_that_classifies_files(encoder: Path, photos: Path, tmp_path: Path) -> None:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    classes = [f"photos/{path.name},{int(path.name[:3]) % 3}" for path in sorted(photos.iterdir())]
    (tmp_path / "classes.csv").write_text("\n".join(["path,label", *classes]))
    train = ["train", "--features", "tiny.onnx", "--data", "photos", *settings, "--set", "model.image_size=16"]
    begun = call(*train, "--labels", "classes.csv", "--name", "r", "--json", cwd=tmp_path)
    assert begun.returncode == 0, begun.stderr
    exported = call("export", "r", "--onnx", "--out", "b", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    classified = call("classify", "photos", "--model", "b", "--out", "rows.jsonl", cwd=tmp_path)
    assert "121 rows, 1 unreadable" in classified.stderr
    manifest = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert manifest["accuracy"] == json.loads((tmp_path / "runs/r/evaluation.json").read_text())["accuracy"]
    # The reference is of the photographs' own features: enlarged from 16 pixels they would get other answers.
    assert "drift 0.00" in classified.stderr
    assert sum(manifest["reference"]["counts"]["occupancy"]) == 12
    assert [manifest["image"][side] for side in ("channels", "height", "width")] == [3, 32, 32]
    assert [manifest["drawn"][side] for side in ("channels", "height", "width")] == [3, 16, 16]
    paths = sorted(photos.glob("???.jpg"))
    pictures = np.stack([decoded(path) for path in paths])
    model = infoae.load(tmp_path / "runs" / "r")
    expected = model.classify(by_hand(pictures).astype(np.float32)).numpy()
    answers = Classifier(tmp_path / "b", "cpu").classify(pictures)
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-4)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    labels = {Path(row["path"]).name: row["label"] for row in rows if row.get("error") in (None, "")}
    sure = np.sort(expected, axis=1)[:, -1] - np.sort(expected, axis=1)[:, -2] > 1e-3
    assert sure.any()
    for path, category, clear in zip(paths, expected.argmax(1), sure, strict=True):
        assert not clear or labels[path.name] == category
    drawn = call("generate", "--model", "b", "--count", "2", "--out", "made.npz", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert np.load(tmp_path / "made.npz")["images"].shape == (6, 3, 16, 16)

    for verb in (["evaluate", "r"], ["figures", "r"], ["train", "--resume", "r", "--epochs", "5"]):
        done = call(*verb, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    write_encoder(encoder, dim=13)
    for verb in (
        ["evaluate", "r"],
        ["train", "--resume", "r", "--epochs", "6"],
        ["export", "r", "--onnx", "--out", "c"],
    ):
        refused = call(*verb, cwd=tmp_path)
        assert refused.returncode == 1
        assert refused.stderr.count("error: ") == 1
        assert "is another than the one this run was trained with" in refused.stderr


def test_features_of_a_file_train_and_have_no_bundle(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(800, 5)).astype(np.float32))
    settings = [part for setting in SMALL for part in ("--set", setting)]
    data = ["--data", str(small_mnist())]
    done = call("train", "--features", "rows.npy", *data, *settings, "--name", "r", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    evaluation = json.loads((tmp_path / "runs/r/evaluation.json").read_text())
    assert evaluation["generated"]["recovered"] is None
    assert np.isfinite(evaluation["generated"]["diversity_pixels"])
    refused = call("export", "r", "--onnx", cwd=tmp_path)
    assert refused.returncode == 1
    assert "there is no encoder to export, and no bundle" in refused.stderr
    with pytest.raises(InfoAEError, match="has none of another"):
        infoae.load(tmp_path / "runs/r").classify(np.zeros((1, 1, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["objective.weights.classification_encoded=1"], "objective.weights.classification_encoded needs a gradient"),
        (["objective.self_critic_fakes=cycle"], "objective.self_critic_fakes cycle needs a gradient"),
        (["objective.pairs=twins", "pseudo_labels.anchor_hops=0"], "needs objective.pairs neighbours"),
        (["neighbours.source=pixels"], "neighbours.source given and features.encoder need each other"),
        (["features.encoder=null"], "neighbours.source given and features.encoder need each other"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_their_keys(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipes.load("photos-features", settings)


def test_a_measure_of_few_images_needs_no_neighbour() -> None:
    assert evaluate.partners_of(PIXELS[:1, None]) is None
    np.testing.assert_array_equal(evaluate.partners_of(np.ones((1, 4), np.float32)), [0])


def on_features() -> tuple[InfoAE, Batch]:
    """A model in evaluation mode on features of 12 values, and a batch of 6 images with features of both partners."""
    torch.manual_seed(0)
    config = recipes.load("photos-features", [*SMALL, "features.dim=12", "model.channels=1", "model.image_size=28"])
    model = InfoAE(config.model, config.features).eval()
    x, u, c = torch.rand(6, 1, 28, 28), torch.rand(6, 100), torch.arange(6)
    return model, Batch(x, None, u, c, torch.tensor([[0, 1, 2, 0, 1, 2]] * 2), features=torch.randn(2, 6, 12))


def test_a_part_of_a_batch_has_its_features() -> None:
    _, batch = on_features()
    assert batch.features is not None
    mine, partners = batch[1:4].seen()
    torch.testing.assert_close(mine, batch.features[0, 1:4])
    torch.testing.assert_close(partners, batch.features[1, 1:4])


@pytest.mark.parametrize("adversarial", [False, True])
def test_losses_are_of_latents_of_features(adversarial: bool) -> None:
    model, batch = on_features()
    config = recipes.load("photos-features", SMALL).objective
    wanted = ["mutual_information", "pseudo_label", "reconstruction"]
    if adversarial:
        wanted += ["self_critic", "discriminator", "decoder_generated", "decoder_reconstructed"]
    stage = objective.adversarial_stage if adversarial else objective.latent_stage
    found = stage(model, config, wanted, batch).losses
    assert set(found) == set(wanted)
    assert batch.features is not None
    z, z_partner = (model.encoder(each) for each in batch.features)
    answers = [head(each).softmax(1) for each in (z, z_partner) for head in (model.classifier, *model.other_heads)]
    informations = []
    for mine, other in zip(answers[:3], answers[3:], strict=True):
        joint = (mine.T @ other + other.T @ mine) / 12
        informations.append((joint * (joint / joint.sum(0) / joint.sum(1)[:, None]).log()).sum())
    torch.testing.assert_close(found["mutual_information"], -torch.stack(informations).mean(), rtol=1e-3, atol=1e-5)
    apart = ((torch.sigmoid(model.decoder(z)) - batch.x) ** 2).sum((1, 2, 3)).mean()
    torch.testing.assert_close(found["reconstruction"], apart)
