"""Where the time of a training step of one thread goes. `python benchmarks/step.py --profile` runs it.

By phase, with a clock around each; and by operation, with PyTorch's profiler: the largest ones, and all of them grouped
into kinds. What an operation calls, and what a backward pass calls, is of its kind: a copy within a convolution's
gradient is that gradient's. Beside the time of a kind stand the bytes that its operations are given and return. A copy
of memory moves so many in the time that it takes; a kind near to that waits for memory. What stays in a cache between
two operations may be faster.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.ways import Case
from infoae.methods.method import Side

LARGEST = 15
COPIED = 2**28
"""Bytes that are copied to measure how fast that is: more than a cache holds."""
COPIES = 8
STEP = "step"
OTHER, OUTSIDE = "other", "outside of operations"
# The first that fits an operation, or what it is called by, is its kind.
KINDS = {
    "optimizers and average": "Optimizer|_fused_adam|_foreach_",
    "casts": r"aten(::|\.)_?to\b|_to_copy|ToCopyBackward",
    "convolutions' gradients": "_?Convol(ve|ution)Backward|convolution_backward",
    "first-layer phases": "pixel_(un)?shuffle|Pixel(Un)?shuffle|constant_pad_nd|ConstantPadNd|::pad",
    "batch normalisation": "batch_norm|BatchNorm|_Normalise",
    "convolutions forward": "conv|_Convolve",
    "matrix products": r"(add|badd)?b?mm\b|[mM]mBackward|linear",
    "activations": "relu|Relu|threshold_backward|sigmoid|Sigmoid|tanh|Tanh|softplus|Softplus",
    "copies": "copy_|clone|contiguous|aten(::|.)cat|CatBackward|aten(::|.)stack|StackBackward",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in KINDS.items()}


def kind_of(names: Iterable[str]) -> str:
    """Return the kind of an operation, of its own name and those of what it is called by."""
    chain = list(names)
    return next((kind for kind, pattern in _PATTERNS.items() if any(map(pattern.search, chain))), OTHER)


def copy_bandwidth() -> float:
    """Return bytes a second, read and written, of a copy by one thread."""
    torch.set_num_threads(1)
    source = torch.ones(COPIED, dtype=torch.uint8)
    target, times = source.clone(), []
    for _ in range(COPIES):
        started = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - started)
    return 2 * COPIED / min(times)


def measure(case: Case, steps: int) -> dict[str, Any]:
    """Return the mean seconds of a step by kind and operation, and the median ones by phase."""
    torch.set_num_threads(1)
    case.take(0)
    by_phase = phases(case, steps)
    with _Traffic() as traffic:
        case.take(0)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for index in range(steps):
            with record_function(STEP):
                case.take(index)
    kinds, operations = Counter[str](), Counter[str]()
    for event in profiled.events():
        seconds, chain = event.self_cpu_time_total / 1e6 / steps, list(_callers(event))
        if STEP in chain:
            kinds[OUTSIDE if chain == [STEP] else kind_of(chain)] += seconds
            operations[event.name] += seconds
    del operations[STEP]
    return {
        "phases": by_phase,
        "kinds": {kind: {"seconds": kinds[kind], "bytes": traffic.bytes[kind]} for kind in (*KINDS, OTHER, OUTSIDE)},
        "operations": dict(operations.most_common(LARGEST)),
    }


def _callers(event: FunctionEvent | None) -> Iterator[str]:
    """Yield the name of an operation, and of what it is called by, up to the step."""
    while event is not None:
        yield event.name
        event = event.cpu_parent


class _Traffic(TorchDispatchMode):
    """Counts the bytes of the tensors that operations are given and return, by kind."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        returned = func(*args, **given)
        view = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        if not view and "empty" not in str(func):
            node = torch._C._current_autograd_node()
            names = [str(func)] if node is None else [str(func), node.name()]
            # What is expanded is as large as what it is expanded from.
            leaves = [each for each in tree_leaves((args, given, returned)) if isinstance(each, Tensor)]
            self.bytes[kind_of(names)] += sum(min(each.nbytes, each.untyped_storage().nbytes()) for each in leaves)
        return returned


def phases(case: Case, steps: int) -> dict[str, float]:
    """Return the median seconds of each phase of a step, and of what is in none."""
    rows: list[dict[str, float]] = []
    with _clocked(case) as spent:
        for index in range(steps):
            spent.update(dict.fromkeys(spent, 0.0))
            started = time.perf_counter()
            case.take(index)
            whole = time.perf_counter() - started
            rows.append(spent | {OTHER: whole - sum(spent.values())})
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


@contextmanager
def _clocked(case: Case) -> Iterator[dict[str, float]]:
    """Add the seconds of each phase to what is yielded."""
    step, spent = case.step, dict[str, float]()

    def backward_of(side: Side, *_: object, **__: object) -> str:
        mine = {id(parameter) for parameter in side.parameters}
        networks = case.step.model.named_children()
        names = [name for name, network in networks if any(id(each) in mine for each in network.parameters())]
        return f"backward, {', '.join(names).replace('_', ' ')}"

    def clock(owner: object, method: str, name_of: Callable[..., str]) -> Any:
        original = getattr(owner, method)

        @wraps(original)
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            returned = original(*arguments, **options)
            spent[name_of(*arguments, **options)] += time.perf_counter() - started
            return returned

        return mock.patch.object(owner, method, timed)

    players = step._players
    names = ["draw", "forward", *(backward_of(player.side) for player in players), "optimizers", "average"]
    spent.update(dict.fromkeys(names, 0.0))
    with ExitStack() as stack:
        stack.enter_context(clock(step, "draw", lambda *_, **__: "draw"))
        stack.enter_context(clock(step, "_forward", lambda *_, **__: "forward"))
        stack.enter_context(clock(step, "_backward", backward_of))
        for player in players:
            stack.enter_context(clock(player.optimizer, "step", lambda *_, **__: "optimizers"))
        if step.average is not None:
            stack.enter_context(clock(step.average, "update", lambda *_, **__: "average"))
        yield spent


def lines(found: list[dict[str, Any]], bandwidth: float) -> list[str]:
    """Return where the time goes for people."""
    told = [f"a copy of memory by one thread: {bandwidth / 1e9:.1f} GB/s, read and written"]
    for entry in found:
        told.append(f"{entry['recipe']}, {entry['stage']}, one thread")
        whole = sum(entry["phases"].values())
        told += [f"  {name:<60}{1e3 * each:8.1f} ms {each / whole:6.1%}" for name, each in entry["phases"].items()]
        whole = sum(kind["seconds"] for kind in entry["kinds"].values())
        for name, kind in entry["kinds"].items():
            seconds = kind["seconds"]
            of_copy = f"{kind['bytes'] / seconds / bandwidth:6.2f} of a copy" if kind["bytes"] and seconds else ""
            told.append(f"  {name:<60}{1e3 * seconds:8.1f} ms {seconds / whole:6.1%} {of_copy}")
        told += [
            f"    {name:<58}{1e3 * each:8.1f} ms {each / whole:6.1%}" for name, each in entry["operations"].items()
        ]
    return told
