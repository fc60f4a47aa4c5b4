"""Tables of a cluster: images and rows of an object store, and what losses cost."""

from __future__ import annotations

from typing import Any

from benchmarks.pages.results import Results, table

TESTS = {  # of losses.json
    "uploads": "tests/runs/test_uploads.py::test_uploads_take_less_than_a_hundredth_of_the_time_of_the_steps",
    "killed": "tests/faults/test_killed_uploads.py::test_what_is_stored_is_whole_whenever_uploads_are_killed",
    "stopped": "tests/integration/test_stuck_workers.py::test_a_worker_that_is_stopped_is_found_and_costs_a_restart",
    "announced": "tests/integration/test_stuck_workers.py"
    "::test_a_machine_that_is_announced_to_go_costs_seconds_of_an_epoch",
    "resized": "tests/integration/test_cluster.py::test_more_nodes_on_the_way_are_taken_in_and_no_step_is_done_twice",
    "undisturbed": "tests/integration/test_hosts.py::test_undisturbed",
    "slow": "tests/integration/test_hosts.py::test_a_host_with_a_slow_link_costs_time_alone",
    "cut": "tests/integration/test_hosts.py::test_a_host_that_is_cut_off_leaves_the_others_to_go_on",
    "dropped": "tests/integration/test_hosts.py::test_a_head_without_a_link_for_seconds_is_waited_for",
}


def losses(results: Results) -> list[str]:
    """What happened to trainings on a cluster, and what it cost them."""
    found = results.json("losses.json")
    of = {name: found.get(test, {}) for name, test in TESTS.items()}
    rows = [["checkpoints go to an S3 server meanwhile", _uploads(of["uploads"])]]
    for kind, where in (("folder", "a folder"), ("s3", "an S3 server")):
        of_kind = found[f"{TESTS['killed']}[{kind}]"]
        rows.append(
            [
                f"who stores checkpoints in {where} is killed {of_kind['kills']} times",
                f"{of_kind['cut_short']} of them cut short; what was stored was whole each time",
            ]
        )
    stopped, announced, resized = of["stopped"], of["announced"], of["resized"]
    rows += [
        [
            f"a worker's process is stopped; {stopped['patience']} s of silence are allowed",
            f"found after {stopped['found_after_seconds']:.0f} s, trained again after "
            f"{stopped['trained_again_after_seconds']:.0f} s",
        ],
        [
            "a machine is announced to go, and goes after 40 s",
            f"{announced['steps_done'] - announced['steps_kept']:,} of {announced['steps_done']:,} steps done twice",
        ],
        [
            "a machine comes, and Ray takes it in",
            f"{sum(resized['steps_done']) - sum(resized['steps_kept']):,} steps done twice",
        ],
        *_hosts(of),
    ]
    return results.source("losses") + table(["what happens", "what it costs"], rows)


def _uploads(found: dict[str, Any]) -> str:
    share = 100 * found["blocked_seconds"] / found["seconds"]
    return f"steps wait {1000 * found['blocked_seconds']:.0f} ms of {found['seconds']:.0f} s for it, {share:.2f} %"


def _hosts(of: dict[str, dict[str, Any]]) -> list[list[str]]:
    undisturbed, slow, cut, dropped = (of[name] for name in ("undisturbed", "slow", "cut", "dropped"))
    (workers, _), *_, (left, step) = cut["starts"]
    restarts = f"{dropped['restarts']} restart{'' if dropped['restarts'] == 1 else 's'}"
    return [
        [
            f"one host of four has a link of {slow['rate'].removesuffix('mbit')} Mbit/s",
            f"{slow['seconds']:.0f} s of training, {undisturbed['seconds']:.0f} s without; no restart",
        ],
        [
            f"one host of {workers} is cut off; 80 s of silence are allowed",
            f"{left} train again after {cut['trained_again_after_seconds'][-1]:.0f} s, from step {step}",
        ],
        [f"the head's link is down for {dropped['dropped_seconds']:.0f} s", f"{restarts}; the same last step"],
    ]


def streaming(results: Results) -> list[str]:
    """Training from a store against training from a folder."""
    found = results.json("streaming.json")
    ways, shards = found["ways"], found["shards"]
    said = {
        "folder": "a folder",
        "store": "the store, no copies yet",
        "copied": "the store, all copied",
        "bounded": "the store, room for a third of the copies",
        "silent": f"so, and the server says nothing for {found['silent_seconds']:.0f} s in each epoch but the first",
        "killed": f"the store, killed after step {found['killed_after_step']:,}, gone on with without its copies",
    }
    header = ["images from", "seconds", "of a step waiting", f"requests for {shards} shards", "most on disk", "weights"]
    rows = [
        [
            said[name],
            f"{way['seconds']:,.0f}",
            f"{100 * way['waiting']:.1f} %",
            f"{way['requests']:,}" if name != "folder" else "",
            f"{way['mb_of_copies']:.0f} MB" if name != "folder" else "",
            ("the same" if way["same_weights"] else "others") if name != "folder" else "",
        ]
        for name, way in ways.items()
    ]
    return results.source("streaming") + table(header, rows)


def classify_store(results: Results) -> list[str]:
    """Many rows of an object store on a cluster, killed twice: each is there once, its rate and its memory."""
    found = results.json("classify-store.json")
    rows, memory = found["rows_in_result"], found["memory_mb"]
    kills = [f"{kill['killed']} after {kill['after_rows']:,} rows" for kill in found["kills"]]
    shards = -(-found["rows"] // found["shard_rows"])
    lines = [
        ["rows, in shards", f"{found['rows']:,} in {shards}, {found['gb_in_store']:.2f} GB"],
        ["killed", "; ".join(kills)],
        ["rows there once, lost, doubled", f"{rows['once']:,}, {rows['missing']:,}, {rows['more_than_once']:,}"],
        ["labels that are not those of `Classifier` alone", f"{rows['other_label']:,}"],
        [
            "time, start-up and what was done twice included",
            f"{found['seconds'] / 60:,.0f} min on {found['cpus']} CPUs",
        ],
    ]
    said = {"job": "the job", "classifier": "`Classifier`", "decoding and classifier": "decoding, then `Classifier`"}
    for name, value in found["rows_per_second_a_core"].items():
        lines.append([f"rows a second of a core: {said[name]}", f"{value:,.0f}"])
    for name, value in found["ratios"].items():
        lines.append([f"the job against {said[name.removeprefix('job/')]}", f"{value:.2f}"])
    for who in ("command", "actor"):
        parts = " and ".join(f"{memory[who][part]:,.0f} MB" for part in ("first_quarter", "last_quarter"))
        lines.append([f"most memory of the {who}, in the first and the last quarter after it was resumed", parts])
    return results.source("classify-store") + table(["", ""], lines)
