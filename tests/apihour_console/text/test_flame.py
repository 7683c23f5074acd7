from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from apihour_console.text.flame import flame_graph, hot_spots

STACKS = {"main;handle;parse": 6, "main;handle": 2, "main;<lambda> \"&\"": 1, "(idle)": 1}


def test_hot_spots_count_own_and_total() -> None:
    rows = {row.function: row for row in hot_spots(STACKS)}
    assert (rows["parse"].self, rows["parse"].total) == (6, 6)
    assert (rows["handle"].self, rows["handle"].total) == (2, 8)
    assert (rows["main"].self, rows["main"].total) == (0, 9)
    assert rows["handle"].total_percent == 80.0
    assert hot_spots(STACKS)[0].function == "parse"


def test_recursion_is_counted_once() -> None:
    (row,) = hot_spots({"f;f;f": 4})
    assert (row.self, row.total) == (4, 4)


def test_picture_is_whole_and_harmless() -> None:
    svg = flame_graph(STACKS, "1 s <script>")
    tree = ElementTree.fromstring(svg)
    names = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert names == {"svg", "rect", "text", "g", "title"}
    titles = [t.text for t in tree.iter("{http://www.w3.org/2000/svg}title")]
    assert "handle: 8 samples, 88.9%" in titles
    assert '<lambda> "&": 1 samples, 11.1%' in titles
    assert "9 busy of 10 samples" in svg


def test_nothing_sampled() -> None:
    ElementTree.fromstring(flame_graph({}, "empty"))
    assert hot_spots({}) == []
