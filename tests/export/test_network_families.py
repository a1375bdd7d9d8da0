"""Every family of published networks as ONNX graphs that answer what it answers."""

import pytest
from small_views import FAMILIES, stir, tiny

from export.network_bundle import export_network
from export.parity import TOLERANCE
from networks.building import build_network


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_graphs_answer_what_the_network_answers(name: str) -> None:
    network = build_network(tiny(name)).eval()
    stir(network)
    # The cheapest selector: `lookwhen import` exports each family with its own.
    with export_network(network, "random") as graphs:
        compared = " ".join(made.what for made in graphs.checks)
        assert all(part in compared for part in ("logits", "video", "padded", "batch 3"))
        assert max(made.difference for made in graphs.checks) < TOLERANCE
