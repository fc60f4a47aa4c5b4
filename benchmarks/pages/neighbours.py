"""What neighbours found in parts on disk cost by the number of images, measured, and on many nodes by a model."""

from __future__ import annotations

from typing import Any

from benchmarks.pages.results import Results, table, wrapped


def scale(results: Results) -> list[str]:
    """The measured sizes, and the model that follows from them if they are large enough for one."""
    found = results.json("neighbour-scale.json")
    lines = results.source("neighbour-scale") + measured(found["rows"])
    return lines + modelled(found["model"]) if "model" in found else lines


def measured(rows: list[dict[str, Any]]) -> list[str]:
    """What each size took."""
    header = ["images", "CPU seconds", "of them the last stage", "seconds", "memory", "disk", "of the nearest 5 found"]
    return table(
        header,
        [
            [
                f"{row['images']:,}",
                f"{row['cpu_seconds']:,.0f}",
                f"{100 * row['stages']['found']['cpu_seconds'] / row['cpu_seconds']:.0f} %",
                f"{row['seconds']:,.0f}",
                f"{row['memory_gb']:.2f} GB",
                f"{row['disk_gb']:.2f} GB",
                f"{100 * row['found_of_5']:.1f} %" if "found_of_5" in row else "",
            ]
            for row in rows
        ],
    )


def modelled(model: dict[str, Any]) -> list[str]:
    """What larger sizes would take, and the largest of them stage by stage."""
    assumed, largest = model["assumed"], model["sizes"][-1]
    nodes, cpus = assumed["nodes"], assumed["cpus_a_node"]
    first = model["sizes"][0]
    counting = [name for name, stage in first["stages"].items() if stage["cpu_hours"] >= first["cpu_hours"] / 100]
    said = (
        f"A model, not measured: {nodes} nodes of {cpus} CPUs, {assumed['link_gb_a_second']:g} GB/s to and from each, "
        f"{assumed['storage_gb_a_second']:g} GB/s of the shared file system for all together, nothing kept in memory, "
        "nothing lost, and shards of a million images. Each stage's CPU seconds are fitted to the rows above. Of "
        "stages that take a hundredth of the time or more, the fit is at most "
        f"{100 * max(model['largest_errors'][name] for name in counting):.0f} % off at a size above. Beyond these "
        "sizes nothing is checked."
    )
    sizes = [
        [
            f"{size['images']:,}",
            f"{size['cpu_hours']:,.0f} h",
            f"{size['hours']:,.1f} h",
            f"{size['disk_tb']:,.2f} TB",
            f"{size['moved_tb']:,.1f} TB",
        ]
        for size in model["sizes"]
    ]
    stages = [
        [
            f"`{name}`",
            f"{stage['cpu_hours']:,.1f} h",
            f"{stage['moved_tb']:,.2f} TB",
            f"{stage['hours']:,.2f} h",
            stage["bound_by"],
        ]
        for name, stage in largest["stages"].items()
    ]
    return [
        "",
        *wrapped(said),
        "",
        *table(["images", "CPU time", f"time on {nodes} nodes", "disk", "read and written"], sizes),
        "",
        f"Of {largest['images']:,} images, stage by stage:",
        "",
        *table(["stage", "CPU time", "read and written", f"time on {nodes} nodes", "bound by"], stages),
    ]
