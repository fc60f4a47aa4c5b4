"""The configuration: what every section holds, and what has to fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]

ReconstructionDistance = Literal["squared", "absolute", "cross-entropy"]
MergingCriterion = Literal["information", "cut"]
Norm = Literal["batch", "spectral", "none"]
DataName = Literal["mnist", "fashion-mnist", "kmnist", "emnist", "usps", "svhn", "cifar10", "shards"]


class Section(BaseModel):
    """A part of the configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Data(Section):
    """What is trained on."""

    name: DataName = "mnist"
    """The data set; mnist is bundled, shards are .npy files under `root`, the others as torchvision lays them out."""
    root: Path | None = None
    """Folder of torchvision data sets or of shards; not used by mnist."""
    download: bool = False
    """Allow torchvision to download into `root`."""
    limit: PositiveInt | None = None
    """Train on the first so many images only."""
    held_out: Annotated[int, Field(ge=0)] = 0
    """Keep the last so many of these out of training, for the score; without, it is of images that are trained on."""


class Model(Section):
    """Sizes of the six networks. The paper states the noise and the categories only."""

    channels: PositiveInt | None = None
    """Image channels; taken from the data if not given."""
    image_size: Annotated[int, Field(ge=8)] | None = None
    """Image height and width in pixels; taken from the data if not given."""
    width: PositiveInt = 32
    """Channels after the first convolution; they double at each halving of the image."""
    hidden_dim: PositiveInt = 256
    """Units between the two layers of generator and classifier, and where the self-critic joins image and latent."""
    generator_hidden_dim: PositiveInt | None = None
    """Of the generator, hidden_dim if not given: it takes many for latents as varied as encoded ones."""
    latent_dim: PositiveInt = 64
    """Z, values in a latent."""
    num_categories: Annotated[int, Field(ge=2)] | Literal["auto"] = 10
    """K, categories that come out; auto finds their number from how much information each merge loses."""
    prior: Literal["uniform", "estimated"] | list[Annotated[float, Field(gt=0)]] = "uniform"
    """How often training asks the generator for each category: alike, as often as the over-categories merged into it
    are answered, or in given proportions, from the commonest category to the rarest."""
    num_over_categories: Annotated[int, Field(ge=2)] | None = None
    """M, finer categories that classifier and generator tell apart, merged into K each epoch; K if not given."""
    num_heads: PositiveInt = 1
    """H, classifiers that the information loss trains on one encoder; the first is used, all of them vote."""
    noise_dim: PositiveInt = 100
    """U, values of noise, uniform on [-1, 1] (reading: the paper's interval is lost)."""
    critic_norm: Norm = "batch"
    """Normalisation inside discriminator and self-critic; the paper's is batch."""

    @model_validator(mode="after")
    def _over_categories_can_be_merged(self) -> Self:
        wanted, over = self.num_categories, self.num_over_categories
        if wanted == "auto" and over is None:
            raise ValueError("num_categories auto needs num_over_categories, which it merges")
        if wanted != "auto" and over is not None and over < wanted:
            raise ValueError(f"num_over_categories {over} is below {wanted} categories")
        if self.prior == "estimated" and over is None:
            raise ValueError("prior estimated needs num_over_categories: it follows from merging them")
        if isinstance(self.prior, list):
            if len(self.prior) != wanted:
                raise ValueError(f"prior has {len(self.prior)} proportions for num_categories {wanted}")
            if self.prior != sorted(self.prior, reverse=True):
                raise ValueError("prior goes from the commonest category to the rarest: categories have no other order")
        return self


class Weights(Section):
    """The weight of each loss (the λs). A loss of weight 0 is not computed."""

    reconstruction: Weight = 1.0
    """alpha: R_l."""
    classification_generated: Weight = 1.0
    """beta: Cl_g."""
    classification_encoded: Weight = 1.0
    """beta: Cl_e."""
    encoder_adversarial: Weight = 0.4
    """gamma: E_l."""
    decoder_generated: Weight = 1.0
    """De_g; 1 in equation 1 (reading)."""
    decoder_reconstructed: Weight = 1.0
    """De_r; 1 in equation 1 (reading)."""
    information: Weight = 0.0
    """Information between the answers for an image and for its augmented partner; not in the paper."""
    consensus: Weight = 0.0
    """Cross-entropy of the answers against what the heads agreed on after information.epochs; not in the paper."""
    latent_matching: Weight = 0.0
    """Energy distance of the generated latents of each category from the encoded ones; not in the paper."""
    discriminator: Weight = 1.0
    """D_l, minimised by the discriminator alone."""
    self_critic: Weight = 1.0
    """S_l, minimised by the self-critic alone."""


class Objective(Section):
    """What is minimised, and the readings of what the paper leaves open."""

    weights: Weights = Weights()
    reconstruction_distance: ReconstructionDistance = "squared"
    """Distance of R_l (reading: the paper names none)."""
    encoder_gradient: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Part of the gradient of reconstructions that reaches the encoder through the decoder; all of it in the paper."""
    self_critic_fakes: Literal["encoded", "reconstructed", "cycle"] = "encoded"
    """The self-critic's fake pairs (reading): encoded (x, z), reconstructed (x_recon, z), cycle (x_gen, z_cycle)."""


class Information(Section):
    """What the information loss compares, and when; not in the paper."""

    pairs: Literal["twins", "neighbours"] = "twins"
    """The partner of an image, then augmented: the image itself, or one of its nearest neighbours."""
    neighbours: PositiveInt = 5
    """Nearest neighbours a partner is drawn from."""
    merging_neighbours: PositiveInt | None = None
    """Nearest neighbours whose answers decide before the vote which over-categories belong together; as many as
    neighbours if not given. More of them keep links between kinds of the same thing."""
    blur: Annotated[float, Field(ge=0)] = 1.0
    """Gaussian blur in pixels before neighbours are sought; makes them purer on strokes."""
    search: Literal["exact", "approximate"] = "exact"
    """Compare each image with all, or with those that faiss finds near it: for more than some 200,000 images."""
    distortion: Annotated[int, Field(ge=0)] = 0
    """Pixels by which parts of a stroke may have moved in a neighbour that was registered; purer, for 1.6 ms an image
    and thread at 1."""
    epochs: Annotated[int, Field(ge=0)] = 0
    """First epochs on this loss (and latent_matching) alone: no image is generated or judged, at a part of the cost."""
    consensus_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs after these, no image generated or judged either, on what the heads have agreed on, too; the decoder
    learns to reconstruct, without moving the encoder."""
    merging: MergingCriterion = "information"
    """What merging over-categories keeps most of: information, or with cut the part of each category whose partners
    are in it, too, in which rare categories count as much as common ones."""
    agreement: Annotated[float, Field(gt=0.5, le=1)] = 0.7
    """Share of the votes that gives an image its category."""
    certain_links: Annotated[int, Field(ge=0)] = 0
    """Links from neighbour to neighbour within which all images need the same category for it to be certain; then the
    others follow the certain ones. 0 does not ask neighbours."""
    agreement_walks: Annotated[float, Field(gt=0.5, le=1)] = 0.8
    """Share of the walks from neighbour to neighbour, of those that end, that end at certain images of one category."""
    settle_every: PositiveInt | None = None
    """After so many further epochs each, the classifier's answers settle the categories of training images anew, by the
    same shares; if not given the vote is all."""

    def kept_neighbours(self) -> int:
        """Return how many nearest neighbours of each image a run keeps."""
        return max(self.neighbours, self.merging_neighbours or 0)


class Augment(Section):
    """How the augmented partner is changed, drawn per image; 0 is not at all. Too much changes what an image is."""

    degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Rotation, up to so many degrees either way."""
    translate: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Shift, up to this fraction of the side either way."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Zoom, up to this fraction either way."""
    shear: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Horizontal shear, up to this factor either way."""
    crop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Cut off up to this fraction of the side, at random places, and enlarge what is left."""
    blur: Annotated[float, Field(ge=0)] = 0.0
    """Gaussian blur of so many pixels, mixed in by a random part."""
    elastic: Annotated[float, Field(ge=0)] = 0.0
    """Move each place by its own shift of up to so many pixels either way, smooth between 5 x 5 points."""


class Optim(Section):
    """Adam, one optimizer for each side of the game (paper section 3)."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Of encoder, decoder, generator and classifier."""
    critic_learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Of discriminator and self-critic."""
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = "none"
    """How both learning rates follow the batch: not at all, or times (train.batch_size / reference_batch)^1/2 or ^1."""
    reference_batch: PositiveInt = 128
    """The batch that the learning rates were chosen for; used by learning_rate_scaling alone."""
    decay_epochs: Annotated[int, Field(ge=0)] = 0
    """Last epochs, over which both learning rates fall to 0 in a straight line."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of Adam's first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of Adam's second moment."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay a step of the averaged weights that are evaluated and exported; 0 uses the last weights."""


class Train(Section):
    """How long, how much at once, and on what."""

    epochs: PositiveInt = 5
    """Passes over the training images, or more of them where those are few (see least_steps)."""
    least_steps: PositiveInt = 1
    """Of an epoch: with fewer images than that takes, each is seen several times in it."""
    patience: PositiveInt | None = None
    """Stop early, when the label-free score has not risen for so many epochs; trains all of them if not given. Learning
    rates fall over the last of all epochs, which such a run may not reach."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Images a step, in all: with several workers each takes its share, and the result stays that of one."""
    micro_batch_size: Annotated[int, Field(ge=2)] | None = None
    """Images that are normalised, and whose information and latents are compared, together: a larger batch is the mean
    of several such micro-batches. A worker whose share is of whole ones waits for nothing but the sum of the gradients.
    All of a batch if not given."""
    game_part: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of a batch that is generated, reconstructed and judged, which costs most of a step."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Autocast; auto takes bf16 where the hardware has it, fp16 on older GPUs, fp32 elsewhere."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one."""
    save_every: PositiveInt | None = None
    """Steps between checkpoints within an epoch, of which one is written at each end: what lost workers do again."""
    log_every: PositiveInt = 20
    """Steps between lines of metrics.jsonl."""

    @model_validator(mode="after")
    def _micro_batches_play(self) -> Self:
        if self.micro_batch_size is not None and self.game_part < 1 and self.game_part * self.micro_batch_size < 4:
            raise ValueError(
                f"game_part {self.game_part:g} of micro_batch_size {self.micro_batch_size} is below 4 images: raise one"
            )
        return self


class Config(Section):
    """A whole run: everything that decides its result."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Decides initial weights, order, noise and augmentation."""
    data: Data = Data()
    model: Model = Model()
    objective: Objective = Objective()
    information: Information = Information()
    augment: Augment = Augment()
    optim: Optim = Optim()
    train: Train = Train()

    @model_validator(mode="after")
    def _decay_fits(self) -> Self:
        if self.optim.decay_epochs > self.train.epochs:
            raise ValueError(
                f"optim.decay_epochs {self.optim.decay_epochs} are the last of train.epochs, which are only "
                f"{self.train.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _information_epochs_fit(self) -> Self:
        weights = self.objective.weights
        model = self.model
        if weights.consensus and not (model.num_heads > 1 and model.num_over_categories and self.information.epochs):
            raise ValueError(
                "objective.weights.consensus needs model.num_heads above 1, model.num_over_categories, and "
                "information.epochs before the heads vote"
            )
        if model.num_categories == "auto" and not self.information.epochs:
            raise ValueError("model.num_categories auto needs information.epochs, at whose end their number is fixed")
        if self.information.epochs and not weights.information:
            raise ValueError("information.epochs train on objective.weights.information alone, which is 0")
        if self.information.certain_links and self.information.pairs != "neighbours":
            raise ValueError("information.certain_links are between neighbours: set information.pairs to them")
        if self.information.consensus_epochs and not weights.consensus:
            raise ValueError("information.consensus_epochs train on objective.weights.consensus, which is 0")
        epochs, consensus_epochs = self.information.epochs, self.information.consensus_epochs
        if epochs + consensus_epochs >= self.train.epochs:
            raise ValueError(
                f"information.epochs {epochs} and consensus_epochs {consensus_epochs} leave none of "
                f"{self.train.epochs} train.epochs to train everything"
            )
        return self

    def compares_neighbours(self) -> bool:
        """Return whether the information loss needs neighbours."""
        return self.information.pairs == "neighbours" and self.objective.weights.information > 0

    def learning_rates(self) -> tuple[float, float]:
        """Return the learning rates of the model's side and of the critics', for this batch size."""
        optim = self.optim
        exponent = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}[optim.learning_rate_scaling]
        factor = float((self.train.batch_size / optim.reference_batch) ** exponent)
        return optim.learning_rate * factor, optim.critic_learning_rate * factor
