"""What our `k8s_attributes` says otherwise than the collector's, each with why it should.

The peer's test finds nothing that is not listed here, and everything that is. The table in the
component's page is made from the same list.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import pathlib
from collections.abc import Mapping
from typing import Any

_PAGE = pathlib.Path("docs/components/processors/k8s_attributes.notes.md")
PAGE = pathlib.Path(__file__).parents[2] / _PAGE
_OWN = {"k8s.match", "k8s.miss"}
"""Ours alone, on every record."""
_ABSENT = None
_BY_RESOURCE = ("defaults", "all metadata", "labels and annotations", "passed over")
"""Blocks in which a resource's own attributes name the pod."""

Differences = dict[tuple[str, str], tuple[Any, Any]]
"""By case and attribute: what the collector says, and what we say; None for nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A difference; `cases` and `attributes` are patterns of the shell, in some of the blocks."""

    cases: str
    attributes: str
    theirs: str
    ours: str
    why: str
    blocks: tuple[str, ...] = _BY_RESOURCE

    def covers(self, block: str, case: str, attribute: str, pair: tuple[Any, Any]) -> bool:
        """Whether it is this difference that was found."""
        theirs, ours = pair
        sides = {"nothing": _ABSENT, "an empty text": ""}
        return (
            block in self.blocks
            and fnmatch.fnmatchcase(case, self.cases)
            and fnmatch.fnmatchcase(attribute, self.attributes)
            and (self.theirs not in sides or theirs == sides[self.theirs])
            and (self.ours not in sides or ours == sides[self.ours])
        )


WANTED = (
    Wanted(
        cases="previous container id",
        attributes="*",
        theirs="nothing",
        ours="pod and container",
        why="a container that was killed for memory is the previous one by the time it is asked for",
    ),
    Wanted(
        cases="unknown container id, pod UID",
        attributes="*",
        theirs="nothing",
        ours="the pod",
        why="rules fall through: the UID names the pod although its container is not known yet",
    ),
    Wanted(
        cases="*container id",
        attributes="k8s.pod.*",
        blocks=("passed over",),
        theirs="nothing",
        ours="the pod",
        why="a rule by `container.id` needs no attribute of containers among those extracted",
    ),
    Wanted(
        cases="IP of a pod in the host's network",
        attributes="*",
        theirs="one of the pods with it",
        ours="nothing",
        why="all pods in the host's network have the node's address: naming one is a guess",
    ),
    Wanted(
        cases="*container id",
        attributes="k8s.container.name",
        blocks=("defaults",),
        theirs="nothing",
        ours="the container's name",
        why="in our default: which container of a pod was killed is what one asks first",
    ),
    Wanted(
        cases="*",
        attributes="k8s.pod.hostname",
        blocks=("all metadata",),
        theirs="an empty text",
        ours="nothing",
        why="what there is not is no attribute",
    ),
    Wanted(
        cases="*",
        attributes="k8s.node.uid",
        blocks=("labels and annotations",),
        theirs="the node's UID",
        ours="nothing",
        why="it is not among the attributes that are to be extracted; a label of the node was",
    ),
    Wanted(
        cases="*",
        attributes="k8s.pod.*",
        blocks=("connection",),
        theirs="the pod whose address sent it",
        ours="the pod that the resource names, or nothing",
        why="a kill comes by no connection, and who sends it on is not whom it befell",
    ),
    Wanted(
        cases="*",
        attributes="k8s.pod.ip",
        blocks=("passthrough",),
        theirs="the address that sent it",
        ours="nothing",
        why="for the same reason; what the cgroup's path tells is there with `passthrough`, too",
    ),
)


def between(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Differences:
    """All that differs but our own attributes; the same cases must have come back."""
    assert theirs.keys() == ours.keys()
    found: Differences = {}
    for case, attributes in theirs.items():
        for key in sorted({*attributes, *ours[case]} - _OWN):
            pair = attributes.get(key), ours[case].get(key)
            if pair[0] != pair[1]:
                found[case, key] = pair
    return found


def unlisted(block: str, found: Differences) -> dict[str, str]:
    """Those that nothing in the list covers."""
    return {
        f"{case}: {key}": f"theirs {pair[0]!r}, ours {pair[1]!r}"
        for (case, key), pair in found.items()
        if not any(one.covers(block, case, key, pair) for one in WANTED)
    }


def unfound(block: str, found: Differences) -> list[Wanted]:
    """Those of the list that should have shown in this block and did not."""
    return [
        one
        for one in WANTED
        if block in one.blocks
        and not any(one.covers(block, *key, pair) for key, pair in found.items())
    ]


def table() -> str:
    """The list as the component's page has it."""
    rows = [
        f"| {_words(one.cases)} | {_code(one.attributes)} | {one.theirs} | {one.ours} | {one.why} |"
        for one in WANTED
    ]
    head = [
        "| the resource has | attribute | collector | here | because |",
        "| --- |" + " --- |" * 4,
    ]
    return "\n".join([*head, *rows])


def _words(cases: str) -> str:
    return {"*": "anything", "*container id": "container id"}.get(cases, cases)


def _code(attributes: str) -> str:
    return "all" if attributes == "*" else f"`{attributes}`"
