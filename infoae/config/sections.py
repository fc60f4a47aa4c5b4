"""The sections of a configuration. Every key's docstring is its help: what it is, then what it does."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infoae.config.kinds import (
    AtMost,
    Batch,
    Categories,
    Count,
    MergingCriterion,
    NeighbourSearch,
    NeighbourSource,
    Norm,
    NumNeighbours,
    Pixels,
    PositiveInt,
    Rate,
    ReconstructionDistance,
    Section,
    Units,
    Weight,
)
from infoae.limits import (
    MAX_BLOCKS,
    MAX_DISTORTION,
    MAX_HEADS,
    MAX_HOPS,
    MAX_IMAGE_SIZE,
    MAX_STEPS,
    MAX_THREADS,
    MAX_UNITS,
)


class Model(Section):
    """Sizes of the six networks. The paper states the noise and the categories only."""

    channels: Annotated[int, Field(ge=1, le=4)] | None = None
    """Image channels; taken from the data if not given."""
    image_size: Annotated[int, Field(ge=8), AtMost(MAX_IMAGE_SIZE)] | None = None
    """Image height and width in pixels; taken from the data if not given."""
    architecture: Literal["dcgan", "infogan"] = "dcgan"
    """Shapes of the networks: dcgan convolves down to 4 pixels; infogan to 8 and adds a fully connected layer, batch
    normalisation in the generator, and small initial weights. The paper names none."""
    encoder: Literal["strided", "residual"] = "strided"
    """Encoder: strided convolves as the critics do, residual has residual blocks, for pictures of things in colour."""
    encoder_blocks: Annotated[int, Field(ge=1), AtMost(MAX_BLOCKS)] = 1
    """Blocks of each stage of encoder residual, of two convolutions each."""
    width: Units = 32
    """Channels after the first convolution; they double at each halving of the image."""
    feature_dim: Units = 1024
    """Units of the fully connected layer of architecture infogan."""
    hidden_dim: Units = 256
    """Units of the hidden layer in generator, classifier and self-critic."""
    generator_hidden_dim: Units | None = None
    """Units of the generator's hidden layer; hidden_dim if not given. Varied images take many."""
    latent_dim: Units = 64
    """Z, values in a latent."""
    num_categories: Categories | Literal["auto"] = 10
    """K, categories that come out; auto finds their number from the mutual information that each merge loses."""
    prior: Literal["uniform", "estimated"] | list[Annotated[float, Field(gt=0, le=1e6)]] = "uniform"
    """Share of each category among generated images: uniform, estimated from the answers, or given proportions, the
    commonest category first."""
    num_over_categories: Categories | None = None
    """M, over-categories that classifier and generator tell apart, merged into K after each epoch; K if not given."""
    num_heads: Annotated[int, Field(ge=1), AtMost(MAX_HEADS)] = 1
    """H, classifiers trained on one encoder; the first is used, all of them vote on pseudo-labels."""
    noise_dim: Units = 100
    """U, values of noise, uniform on [-1, 1] (reading: the paper's interval is lost)."""
    continuous_dim: Annotated[int, Field(ge=0), AtMost(MAX_UNITS)] = 2
    """Continuous codes, uniform on [-1, 1], that a generated image is to show and the recognition network to read."""
    projection_dim: Units | None = None
    """Values of the projection that the contrastive loss compares; there is none if not given."""
    pixelcnn_width: Units = 32
    """Channels of the PixelCNN that reconstructs."""
    pixelcnn_blocks: Annotated[int, Field(ge=1), AtMost(MAX_BLOCKS)] = 3
    """Residual blocks of the PixelCNN; the more, the farther a pixel sees, and the less the category has to say."""
    style_dim: Units = 5
    """Values of the style code, which is normally distributed."""
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Part of the pixels that the encoder does not see in training."""
    image_noise: Annotated[float, Field(ge=0, le=100)] = 0.3
    """Deviation of the normal noise on the images that the discriminator sees in training."""
    critic_norm: Norm = "batch"
    """Normalisation inside discriminator and self-critic; the paper's is batch."""
    self_critic_norm: Norm | None = None
    """Normalisation inside the self-critic, spectral in all its layers; if not given, its features have critic_norm."""

    def image_shape(self) -> tuple[int, int]:
        """Return channels and image_size. Raises ValueError where they are not known yet."""
        if self.channels is None or self.image_size is None:
            raise ValueError("channels and image_size must be known to build the networks")
        return self.channels, self.image_size

    @model_validator(mode="after")
    def _over_categories_can_be_merged(self) -> Self:
        wanted, over = self.num_categories, self.num_over_categories
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
    """alpha: R_l, the distance of reconstructions."""
    classification_generated: Weight = 1.0
    """beta: Cl_g, the category of generated latents."""
    classification_encoded: Weight = 1.0
    """beta: Cl_e, the category of generated images."""
    encoder_adversarial: Weight = 0.4
    """gamma: E_l, the encoder against the self-critic."""
    decoder_generated: Weight = 1.0
    """De_g, the decoder's generated images against the discriminator; 1 in equation 1 (reading)."""
    decoder_reconstructed: Weight = 1.0
    """De_r, the decoder's reconstructions against the discriminator; 1 in equation 1 (reading)."""
    mutual_information: Weight = 0.0
    """Minus the mutual information between the answers for an image and for its partner; not in the paper."""
    pseudo_label: Weight = 0.0
    """Cross-entropy of the answers against pseudo-labels, once there are any; not in the paper."""
    latent_matching: Weight = 0.0
    """Energy distance of the generated latents of each category from the encoded ones; not in the paper."""
    contrastive: Weight = 0.0
    """Cross-entropy of telling an image's twin from all others of the batch (NT-Xent); not in the paper."""
    discriminator: Weight = 1.0
    """D_l, minimised by the discriminator alone."""
    self_critic: Weight = 1.0
    """S_l, minimised by the self-critic alone."""
    generator: Weight = 1.0
    """The generator against the discriminator."""
    category_adversarial: Weight = 1.0
    """The encoder against the category's discriminator."""
    style_adversarial: Weight = 1.0
    """The encoder against the style's discriminator."""
    category_discriminator: Weight = 1.0
    """Tells one-hot categories from the encoder's; minimised by that discriminator alone."""
    style_discriminator: Weight = 1.0
    """Tells normal noise from the encoder's styles; minimised by that discriminator alone."""
    category_information: Weight = 1.0
    """Cross-entropy of the category read from a generated image; a lower bound of their mutual information."""
    continuous_information: Weight = 0.1
    """The same of the continuous codes, under normal distributions."""


class Objective(Section):
    """What is minimised, and the readings of what the paper leaves open."""

    weights: Weights = Weights()
    pairs: Literal["twins", "neighbours"] = "twins"
    """Partner of an image in the mutual information: the image itself or one of its nearest neighbours, augmented."""
    contrastive_temperature: Annotated[float, Field(gt=0, le=100)] = 0.2
    """What cosines are divided by in the contrastive loss; the lower, the more the nearest others count."""
    reconstruction_distance: ReconstructionDistance = "squared"
    """Distance of R_l (reading: the paper names none)."""
    reconstruction_reduction: Literal["sum", "mean"] = "sum"
    """Whether R_l is the sum or the mean over pixels and channels (reading)."""
    encoder_gradient: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the reconstruction's gradient that passes from the decoder to the encoder; 1 in the paper."""
    encoder_batches: Literal["together", "apart"] = "together"
    """Whether the encoder sees real and generated images in one batch, normalised together, or apart (reading)."""
    self_critic_fakes: Literal["encoded", "reconstructed", "cycle"] = "encoded"
    """The self-critic's fake pairs (reading): encoded (x, z), reconstructed (x_recon, z), cycle (x_gen, z_cycle)."""


class Stages(Section):
    """How many of train.epochs come before the adversarial stage, in which everything is trained; not in the papers."""

    generation_epochs: Count = 0
    """Epochs of InfoGAN's first stage: generator and discriminator alone, so that categories are sought among images
    that look like data already."""
    representation_epochs: Count = 0
    """Epochs of the stage before all others: the encoder alone learns by the contrastive loss, so that neighbours can
    be sought in its features."""
    mutual_information_epochs: Count = 0
    """Epochs of the next stage: mutual information (and latent_matching) alone. No image is generated or judged. With
    neighbours.source learned, the encoder's features stay as they have been learnt."""
    pseudo_label_epochs: Count = 0
    """Epochs of the stage after it: the heads have voted, pseudo-labels are learnt, too, and the decoder learns to
    reconstruct without moving the encoder."""


class Neighbours(Section):
    """The nearest neighbours of each training image; not in the paper."""

    source: NeighbourSource = "pixels"
    """Where neighbours are near: in pixels, by the shapes of strokes; in the features that the encoder has learnt in
    stages.representation_epochs; or in those given, of features.encoder."""
    refresh_every: PositiveInt | None = None
    """Epochs between searches while features are learnt, after the first of which the contrastive loss compares an
    image with a neighbour; they are sought only once features are learnt if not given."""
    count: NumNeighbours = 5
    """Nearest neighbours that an image's partner is drawn from."""
    merging_count: NumNeighbours | None = None
    """Nearest neighbours whose answers decide before the vote which over-categories belong together; count if not
    given. More of them keep links between kinds of the same thing."""
    blur: Pixels = 1.0
    """Gaussian blur in pixels before the search; makes neighbours purer on strokes."""
    search: NeighbourSearch = "auto"
    """Search: exact compares all images with all, approximate lets faiss find those that lie near, auto is exact up to
    100,000 images and approximate beyond."""
    memory: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Gigabytes (10^9 bytes) that the search may take; where it would take more it works in parts on disk, and on all
    nodes of a cluster. If not given, half of what the machine or container has, and never on disk up to 100,000
    images."""
    distortion: Annotated[int, Field(ge=0), AtMost(MAX_DISTORTION)] = 0
    """Pixels that parts of a registered neighbour may have moved (image distortion model); purer, for 1.6 ms an image
    and thread at 1. 0 leaves it out."""

    def num_kept(self) -> int:
        """Return how many nearest neighbours of each image a run keeps."""
        return max(self.count, self.merging_count or 0)


class PseudoLabels(Section):
    """Labels that no one gave: merged over-categories, the heads' vote, label propagation; not in the paper."""

    merging: MergingCriterion | Literal["auto"] = "auto"
    """Which over-categories the heads merge: those whose merge loses least mutual_information, which weighs a category
    by its size, or those of least distinctness, in which rare categories count as much as common ones; auto is by
    information, and by distinctness where that leaves a third fewer images without a label."""
    agreement: Annotated[float, Field(gt=0.5, le=1)] = 0.7
    """Share of the heads that must agree to give an image its pseudo-label."""
    anchor_hops: Annotated[int, Field(ge=0), AtMost(MAX_HOPS)] = 0
    """Hops from neighbour to neighbour within which all images must have one label for it to be an anchor of label
    propagation, which labels the others. 0 does not propagate."""
    propagation_agreement: Annotated[float, Field(gt=0.5, le=1)] = 0.8
    """Share of the random walks over neighbours, of those that reach an anchor, that must end at one label."""
    refresh_every: PositiveInt | None = None
    """Epochs between refreshes, in which the classifier's answers make pseudo-labels anew; never if not given."""


class Optim(Section):
    """Adam, one optimizer for each side (paper section 3)."""

    learning_rate: Rate = 2e-4
    """Learning rate of encoder, decoder, generator and classifier."""
    critic_learning_rate: Rate = 2e-4
    """Learning rate of discriminator and self-critic."""
    generator_learning_rate: Rate | None = None
    """Learning rate of decoder and generator; learning_rate if not given."""
    self_critic_learning_rate: Rate | None = None
    """Learning rate of the self-critic; critic_learning_rate if not given. One that learns fast believes no pair."""
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = "none"
    """How learning rates follow the batch: times (train.batch_size / reference_batch) to the power 0, 1/2 or 1."""
    reference_batch: PositiveInt = 128
    """Batch size that the learning rates were chosen for; used by learning_rate_scaling alone."""
    decay_epochs: Count = 0
    """Last epochs, of the training and of the stage that learns features, over which both learning rates fall to 0 in a
    straight line."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of Adam's first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of Adam's second moment."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the averaged weights that are evaluated and exported; 0 uses the last weights."""


class Train(Section):
    """How long, how much at once, and on what."""

    epochs: PositiveInt = 5
    """Passes over the training images; more of them where those are few (see min_steps_per_epoch)."""
    min_steps_per_epoch: Annotated[int, Field(ge=1), AtMost(MAX_STEPS)] = 1
    """Minimum steps per epoch; small data sets are repeated to reach it."""
    patience: PositiveInt | None = None
    """Epochs without a better score after which training stops early; never if not given. Learning rates fall over the
    last of all epochs, which such a run may not reach."""
    batch_size: Batch = 128
    """Images per step, over all workers: each takes its share, and the result stays that of one."""
    micro_batch_size: Batch | None = None
    """Images that are normalised and compared together; a larger batch is the mean of several micro-batches, and a
    worker that has whole ones waits for the sum of gradients alone. The whole batch if not given."""
    adversarial_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of a batch that is generated, reconstructed and judged, which costs most of a step."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format (autocast); auto takes bf16 where the hardware has it, fp16 on older GPUs, fp32 elsewhere."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    processes: Annotated[int, Field(ge=1), AtMost(MAX_THREADS)] | Literal["auto"] = "auto"
    """Processes that share each batch on the CPUs of this machine, with the result of one up to the order of sums; auto
    takes one for each CPU that other programs leave free when an epoch begins, and threads in place of processes where
    networks are large beside the batch. Workers of a cluster have one each."""
    save_every: PositiveInt | None = None
    """Steps between checkpoints within an epoch, beside the one at its end: at most so much is lost with a worker."""
    log_every: PositiveInt = 20
    """Steps between lines of metrics.jsonl."""

    @model_validator(mode="after")
    def _micro_batches_are_judged(self) -> Self:
        fraction, size = self.adversarial_fraction, self.micro_batch_size
        if size is not None and fraction < 1 and fraction * size < 4:
            raise ValueError(
                f"adversarial_fraction {fraction:g} of micro_batch_size {size} is below 4 images: raise one"
            )
        return self
