"""A run as a person corrects it: categories merged, split and named, pictures put right. A new run beside the old one.

The encoder stays, and so does what draws images. Over-categories go to other categories, and the classifier learns for
some seconds on latents: its own answers, and other ones for the pictures that the person spoke of.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infoae.config import Config
from infoae.correcting.named import inputs_named
from infoae.correcting.numbers import Renumbered, renumbered
from infoae.errors import InfoAEError, UsageError, one_line, shown
from infoae.files import write_json
from infoae.gallery.corrections import Corrections
from infoae.loading import load_training
from infoae.model import InfoAE
from infoae.pseudolabels import joint
from infoae.random_streams import Stream
from infoae.random_streams import generator as random_stream
from infoae.runs import checkpoint, names
from infoae.runs.run import CORRECTED, ENVIRONMENT, IMAGES, Run, new_folder

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SURE = 0.9
"""Pictures of a category with at least this probability show where it falls in two."""
STEPS, BATCH, RATE = 500, 500, 1e-3
EACH = (10, 40, 160)
"""As many images of a batch a picture weighs that the person spoke of: the first of them by which all are obeyed, for
more cost other pictures near it."""
MOST = 100_000
"""Training images that are looked at: a classifier of latents needs no more."""
_CORRECTED_NAME = re.compile(r"-corrected-\d{8}-\d{6}(-\d+)?$")


@dataclass(frozen=True)
class Corrected:
    """What came of corrections."""

    run: Run
    new_numbers: dict[int, list[int]]
    """Old category -> the new ones that its pictures go to."""
    moved: dict[tuple[int, int], int]
    """(old, new) category -> how many training images were in the one and are now in the other."""
    obeyed: int
    """Pictures that the corrections speak of and that are now where they belong, of `spoken_of`."""
    spoken_of: int

    def described(self) -> list[str]:
        """Return in words what changed."""
        lines = [
            f"category {old} is now {' and '.join(map(str, new))}"
            for old, new in self.new_numbers.items()
            if new != [old]
        ]
        lines += [
            f"{count:,} training images that were in category {old} are now in {new}"
            for (old, new), count in self.moved.items()
        ]
        if self.spoken_of:
            lines.append(f"{self.obeyed} of the {self.spoken_of} pictures spoken of are where they belong")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        moved = [{"from": old, "to": new, "images": count} for (old, new), count in self.moved.items()]
        counts = {"obeyed": self.obeyed, "spoken_of": self.spoken_of}
        return {"run": str(self.run.path), "new_numbers": self.new_numbers, "moved": moved, **counts}


def correct(
    run: Run,
    given: Corrections,
    pictures: Path,
    name: str | None = None,
    data_root: Path | None = None,
    column: str | None = None,
) -> Corrected:
    """Make a run that follows the corrections `given`, beside `run`, which stays as it is.

    `pictures` is the folder that the corrections' paths start from, `column` that of tables among them. Raises
    InfoAEError if the corrections are of another checkpoint, or of a picture that cannot be read; UsageError if the
    method has no over-categories.
    """
    config, at = run.config(), checkpoint.read(run.checkpoint("best"))
    if config.method != "infoae":
        raise UsageError(f"{run.name} is a run of method {config.method}: corrections are for method infoae")
    old = InfoAE.of_run(run)
    if (given.run, given.step, given.num_categories) != (run.name, at.step, old.num_categories):
        raise InfoAEError(
            f"these corrections are of {given.num_categories} categories of run {shown(given.run)} at step "
            f"{given.step}, and {run.name} has {old.num_categories} at step {at.step}: correct on a gallery of "
            f"{run.name}"
        )
    paths = [*given.examples, *(each.path for each in given.not_this)]
    said = inputs_named(paths, run, old, pictures, column, data_root) if paths else None
    train = load_training(config.model_copy(update={"data": config.data.moved(data_root)}))
    inputs = train.images if train.features is None else train.features
    inputs = inputs[np.linspace(0, len(inputs) - 1, min(len(inputs), MOST)).astype(np.int64)]
    over = old.classify_over(inputs)
    new = renumbered(old.category_of.numpy(), given, _joint(old, inputs, over) if given.splits else None)
    config = _config_of(config, new)
    model = _rebuilt(old, config, new, over.double().mean(0))
    z = old.encode(inputs).clone()  # or what they go through would have no gradient
    z_said = z[:0] if said is None else old.encode(said).clone()
    allowed = _allowed(given, new)
    if len(z_said) or new.copied:
        _learn(model, z, _targets(_answers(model, z), z.numpy(), new), z_said, allowed, config.seed)
    answers = _answers(model, z)
    was, now = old.merge_probabilities(over).argmax(1).tolist(), answers.argmax(1).tolist()
    moved = Counter(pair for pair in zip(was, now, strict=True) if [pair[1]] != new.new_numbers[pair[0]])
    obeyed = _obeyed(model, z_said, allowed)
    made = _stored(run, at, model, config, given, new, name)
    return Corrected(made, new.new_numbers, dict(moved.most_common()), obeyed, len(z_said))


def correction_of(run: Run) -> tuple[str, Corrections] | None:
    """Return which run `run` was corrected from, and by what; None if it was trained. Raises InfoAEError if damaged."""
    path = run.path / CORRECTED
    try:
        content = json.loads(path.read_bytes())
        return str(content["of"]), Corrections.model_validate(content["corrections"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InfoAEError(f"{path} cannot be read ({one_line(error)})") from None


def _joint(model: InfoAE, inputs: NDArray[Any], over: Tensor) -> Floats:
    """Return the joint distribution (M, M) of the classifier's answers for images and for their twins."""
    twins = torch.from_numpy(joint.classify_augmented(model, inputs, 0, model.classify_over))
    found: Floats = joint.of_answers(over[:, None], twins[:, None])[0]
    return found


def _allowed(given: Corrections, new: Renumbered) -> Tensor:
    """Return which over-categories (P, M') each picture may be given: examples, then those that are `not_this`."""
    of_examples = [np.isin(new.category_of, new.new_numbers[each]) for each in given.examples.values()]
    of_others = [~np.isin(new.category_of, new.new_numbers[each.category]) for each in given.not_this]
    rows = [*of_examples, *of_others]
    return torch.from_numpy(np.array(rows, bool).reshape(len(rows), len(new.category_of)))


def _config_of(config: Config, new: Renumbered) -> Config:
    sizes: dict[str, Any] = {"num_categories": new.num_categories, "num_over_categories": len(new.source)}
    if isinstance(config.model.prior, list):
        sizes["prior"] = "estimated"  # what was given is of other categories
    return config.model_copy(update={"model": config.model.model_copy(update=sizes)})


def _rebuilt(old: InfoAE, config: Config, new: Renumbered, frequency: Tensor) -> InfoAE:
    """Return a model of the new categories that answers as the old one does, whose answers have `frequency` (M,)."""
    model, source = InfoAE(config.model, config.features), torch.from_numpy(new.source)
    copies = torch.bincount(source, minlength=old.num_over_categories)[source]
    values = {key: value for key, value in old.state_dict().items() if key not in _OF_CATEGORIES}
    for key, value in values.items():
        if key.startswith(("classifier.", "other_heads.")) and ".layers.2." in key:
            values[key] = value[source] - (copies.log() if key.endswith("bias") else 0)
    of_noise, of_overs = values["generator.layers.0.weight"].split([old.noise_dim, old.num_over_categories], 1)
    values["generator.layers.0.weight"] = torch.cat([of_noise, of_overs[:, source]], 1)
    model.load_state_dict(values, strict=False)
    model.merge(torch.from_numpy(new.category_of), frequency[source] / copies)
    return model.eval()


_OF_CATEGORIES = ("category_of", "chosen_up_to", "prior")


@torch.no_grad()
def _answers(model: InfoAE, z: Tensor) -> Tensor:
    """Return the probabilities of categories (N, K') for latents (N, Z)."""
    return model.merge_probabilities(model.classifier(z).softmax(1))


def _targets(answers: Tensor, z: NDArray[np.float32], new: Renumbered) -> Tensor:
    """Return what the classifier is to answer (N, K') where nobody has said otherwise: what it did, answers (N, K').

    Where two categories are copies, pictures of both are told apart by 2-means of their latents z (N, Z).
    """
    from sklearn.cluster import KMeans

    targets = answers.clone()
    for pair in new.copied:
        rows = torch.nonzero(answers[:, pair].sum(1) > SURE)[:, 0]
        if len(rows) > 1:
            of_two = torch.from_numpy(KMeans(2, n_init=10, random_state=0).fit_predict(z[rows.numpy()])).long()
            targets[rows[:, None], torch.tensor(pair)] = answers[rows][:, pair].sum(1, keepdim=True) * F.one_hot(of_two)
    return targets


def _learn(model: InfoAE, z: Tensor, targets: Tensor, z_said: Tensor, allowed: Tensor, seed: int) -> None:
    """Train the classifier to answer targets (N, K') on latents z (N, Z), and as is allowed on z_said (P, Z)."""
    for each in EACH:
        _train(model, z, targets, z_said, allowed, each, seed)
        if _obeyed(model, z_said, allowed) == len(z_said):
            return


def _obeyed(model: InfoAE, z_said: Tensor, allowed: Tensor) -> int:
    """Return how many of the latents z_said (P, Z) are given a category that is allowed (P, M')."""
    answers = _answers(model, z_said).argmax(1)
    return int(((model.category_of[None] == answers[:, None]) & allowed).any(1).sum())


def _train(model: InfoAE, z: Tensor, targets: Tensor, z_said: Tensor, allowed: Tensor, each: int, seed: int) -> None:
    random = random_stream(seed, Stream.EVALUATION)
    optimizer = torch.optim.Adam(model.classifier.parameters(), RATE)
    members = F.one_hot(model.category_of, model.num_categories).T.bool()
    for _ in range(STEPS):
        taken = torch.randint(len(z), (BATCH,), generator=random)
        log_share = _log_share(model.classifier(z[taken])[:, None], members)
        loss = -(targets[taken] * log_share).sum(1).mean()
        if len(z_said):
            loss = loss - each * _log_share(model.classifier(z_said), allowed).sum() / BATCH
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()


def _log_share(logits: Tensor, allowed: Tensor) -> Tensor:
    """Return the log probability (...) in nats of what is allowed (..., M') by logits (..., M')."""
    return logits.log_softmax(-1).masked_fill(~allowed, -torch.inf).logsumexp(-1)


def _stored(
    run: Run,
    at: checkpoint.Checkpoint,
    model: InfoAE,
    config: Config,
    given: Corrections,
    new: Renumbered,
    name: str | None,
) -> Run:
    """Write the run that holds the corrected model; it appears whole or not at all."""
    known = names.stored(run, given.num_categories, at.step) or [None] * given.num_categories
    called = _called(known, given.names, new)

    def fill(folder: Path, _: str) -> None:
        made = Run(folder)
        made.write_config(config)
        for file in (ENVIRONMENT, IMAGES):
            if (run.path / file).exists():
                shutil.copyfile(run.path / file, folder / file)
        state = checkpoint.State({"model": model.state_dict()})
        corrected = checkpoint.Checkpoint(at.step, at.epoch, at.seconds, None)
        checkpoint.save(made.checkpoints, corrected, state)
        names.store(made, called, at.step)
        content = {"of": run.name, "new_numbers": new.new_numbers, "corrections": given.model_dump(mode="json")}
        write_json(folder / CORRECTED, content)

    stem = _CORRECTED_NAME.sub("", run.name)  # or the name of what is corrected often grows too long
    made = Run(new_folder(run.path.parent, name, f"{stem}-corrected", fill))
    made.point_latest()
    return made


def _called(known: list[str | None], given: Mapping[int, str], new: Renumbered) -> list[str | None]:
    """Return the name of each new category: one given to it, or else the known one, of the first that has any."""
    called: list[str | None] = [None] * new.num_categories
    for names_of in (given, dict(enumerate(known))):
        for old, text in sorted(names_of.items()):
            for number, new_number in enumerate(new.new_numbers[old]):
                if called[new_number] is None and text is not None:
                    called[new_number] = text if number == 0 else f"{text} {number + 1}"
    return called
