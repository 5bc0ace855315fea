"""Finding things in rendered manifests."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Resource = Mapping[str, Any]  # a manifest is whatever Kubernetes takes

_POD_PATHS = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "Job": ("spec", "template"),
}


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A pod that will run.

    Attributes:
        owner: kind/name of what makes it, and its place there.
        kind: of the owner.
        metadata, spec: as rendered.
    """

    owner: str
    kind: str
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        labels: Mapping[str, str] = self.metadata["labels"]
        return labels

    @property
    def component(self) -> str:
        """What it is."""
        return self.labels["app.kubernetes.io/component"]

    @property
    def runs_on(self) -> bool:
        """Whether it serves, and does not end by itself."""
        return self.kind != "Job"


def of_kind(resources: Iterable[Resource], kind: str) -> list[Resource]:
    """All of a kind."""
    return [found for found in resources if found["kind"] == kind]


def named(resources: Iterable[Resource], kind: str, name: str) -> Resource:
    """The one of a kind and name."""
    (found,) = (one for one in of_kind(resources, kind) if one["metadata"]["name"] == name)
    return found


def pods(resources: Iterable[Resource]) -> Iterator[PodTemplate]:
    """Every template of a pod, those inside custom resources too."""
    for found in resources:
        kind, name = found["kind"], found["metadata"]["name"]
        if kind in _POD_PATHS:
            templates = {"": found["spec"]["template"]}
        elif kind == "RayService":
            cluster = found["spec"]["rayClusterConfig"]
            templates = {"/head": cluster["headGroupSpec"]["template"]}
            templates |= {f"/{group['groupName']}": group["template"] for group in cluster["workerGroupSpecs"]}
        elif kind == "LeaderWorkerSet":
            group = found["spec"]["leaderWorkerTemplate"]
            templates = {"/leader": group["leaderTemplate"], "/worker": group["workerTemplate"]}
        else:
            continue
        for place, template in templates.items():
            yield PodTemplate(f"{kind}/{name}{place}", kind, template["metadata"], template["spec"])


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a selector (matchLabels alone, as the chart writes) takes these labels."""
    assert selector.keys() <= {"matchLabels"}, "the chart selects by labels alone"
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
