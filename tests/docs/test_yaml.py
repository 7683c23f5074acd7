"""All YAML of the documents can be read, and what is a Deployment of Kubernetes fits itself."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.docs.blocks import ROOT, Block, blocks, documents

KUBERNETES = ROOT / "docs" / "howto" / "kubernetes.rst"
BLOCKS = [block for page in documents() for block in blocks(page) if block.language == "yaml"]


def read(block: Block) -> list[Any]:
    return list(yaml.safe_load_all(block.text))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_it_can_be_read(block: Block) -> None:
    assert any(isinstance(one, dict) for one in read(block))


def test_what_kubernetes_is_told_fits_itself() -> None:
    named = {block.name: read(block) for block in blocks(KUBERNETES) if block.language == "yaml"}
    deployment = named["shop.yaml"][0]
    there = deployment["spec"]["template"]["spec"]
    [patch] = named["shop-fleet.yaml"]
    added = patch["spec"]["template"]["spec"]
    [main], [main_patch] = there["containers"], added["containers"]
    assert main_patch["name"] == main["name"]
    assert main_patch["args"][:len(main["args"])] == main["args"]  # a list is replaced as a whole
    volumes = {one["name"] for one in [*there["volumes"], *added["volumes"]]}
    mounts = [*main["volumeMounts"], *main_patch["volumeMounts"],
              *added["initContainers"][0]["volumeMounts"]]
    assert {one["name"] for one in mounts} == volumes
    assert added["initContainers"][0]["image"] == main["image"]
