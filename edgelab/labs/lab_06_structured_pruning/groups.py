"""The groups of a model, drawn in its graph."""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import fx

from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice
from edgelab.i18n import _
from edgelab.measure import layer_costs
from edgelab.pruning import Dependencies
from edgelab.pruning.channels import IN, OUT

PLUS = "+"


def group_explorer(dependencies: Dependencies) -> Explorer:
    """Return the layers of a model as a graph, with the members of a chosen group filled."""
    costs = {layer.name: layer.macs for layer in layer_costs(dependencies.model, dependencies.example)}
    edges = layer_graph(dependencies)
    controls = {"group": choice(_("group"), [*dependencies.groups, *dependencies.kept])}
    return Explorer(lambda group: group_plot(dependencies, edges, costs, group), controls)


def layer_graph(dependencies: Dependencies) -> dict[str, list[str]]:
    """Return what each layer and each addition reads, by name: layers, additions ("+1", "+2", ...), or "image"."""
    weighted = {layer for layer, direction in dependencies.slots if direction == IN}
    names: dict[fx.Node, str] = {}
    edges: dict[str, list[str]] = {}
    for node in dependencies.model.graph.nodes:
        sources = [names[part] for part in node.all_input_nodes if part in names]
        if node.op == "placeholder":
            names[node] = "image"
        elif node.op == "call_module" and str(node.target) in weighted:
            names[node] = str(node.target)
            edges[names[node]] = sources
        elif len(sources) > 1:
            names[node] = f"{PLUS}{sum(name.startswith(PLUS) for name in edges) + 1}"
            edges[names[node]] = sources
        elif sources:
            names[node] = sources[0]
    return edges


def group_plot(
    dependencies: Dependencies, edges: Mapping[str, list[str]], costs: Mapping[str, int], group: str
) -> plots.Picture:
    """Return the graph; a layer's left half is filled if the group is among its inputs, the right one for outputs."""
    chosen = dependencies.groups.get(group) or dependencies.kept[group]
    sides = {(member.layer, member.direction) for member in chosen.members}
    places = _places(edges)
    with plots.figure(width=9, height=3.4) as fig:
        ax = fig.subplots()
        for name, sources in edges.items():
            for source in sources:
                _arrow(ax, places[source], places[name])
        for name, (x, y) in places.items():
            if name.startswith(PLUS) or name == "image":
                ax.annotate(
                    PLUS if name.startswith(PLUS) else _("image"), (x, y), ha="center", va="center",
                    bbox={"boxstyle": "circle" if name.startswith(PLUS) else "round", "fc": "white", "ec": plots.INK},
                    color="black",
                )  # fmt: skip
                continue
            for side, left in ((IN, x - 0.3), (OUT, x)):
                filled = (name, side) in sides
                colour = plots.SKY if side == IN else plots.VERMILION
                ax.add_patch(
                    Rectangle(
                        (left, y - 0.16),
                        0.3,
                        0.32,
                        fc=colour if filled else "white",
                        ec=plots.INK,
                        zorder=3,
                        hatch=("..." if side == IN else "///") if filled else "",
                    )
                )
            if y > 0:
                ax.annotate(name, (x, y + 0.22), ha="center", va="bottom", fontsize=8, zorder=4)
            else:
                ax.annotate(
                    name, (x, y - 0.22), ha="right", va="top", rotation=30, rotation_mode="anchor", fontsize=8, zorder=4
                )
        depth = max(x for x, _y in places.values())
        ax.set(xlim=(-0.6, depth + 0.6), ylim=(-1.3, 1.6), xticks=[], yticks=[])
        ax.axis("off")
        touched = {layer for layer, _side in sides} & costs.keys()
        share = 100 * sum(costs[layer] for layer in touched) / sum(costs.values())
        title = _("%(name)s: %(n)d channels; their layers do %(share).0f %% of the MACs") % {
            "name": group,
            "n": len(chosen),
            "share": share,
        }
        title += "\n" + (
            _("they stay: %(why)s") % {"why": chosen.why}
            if chosen.why
            else _("filled: what gets smaller (left: inputs, right: outputs)")
        )
        ax.set_title(title)
        members = "; ".join(map(str, chosen.members))
        return plots.picture(fig, f"{title}. {members}".replace("\n", ". "))


def _places(edges: Mapping[str, list[str]]) -> dict[str, tuple[float, float]]:
    """Return x and y of each node: x is the longest way from the image, y tells those of one x apart."""
    depth: dict[str, int] = {"image": 0}
    for name, sources in edges.items():  # in order of execution
        depth[name] = 1 + max(depth[source] for source in sources)
    taken: dict[int, int] = {}
    places = {}
    for name, x in depth.items():
        places[name] = (float(x), float(taken.get(x, 0)))
        taken[x] = taken.get(x, 0) + 1
    return places


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    far = end[0] - start[0] > 1.5 and start[1] == end[1]
    ax.annotate(
        "", (end[0] - 0.3, end[1]), (start[0] + 0.3, start[1]),
        arrowprops={"arrowstyle": "->", "color": plots.INK, "connectionstyle": f"arc3,rad={-0.45 if far else 0}"},
    )  # fmt: skip


def difference(one: torch.nn.Module, other: torch.nn.Module, images: torch.Tensor) -> float:
    """Return the largest difference of two models' logits, relative to the largest logit."""
    with torch.inference_mode():
        expected, got = one(images), other(images)
    return float((got - expected).abs().max() / expected.abs().max())
