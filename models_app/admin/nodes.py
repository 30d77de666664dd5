"""Nodes under /admin/: machines that run models, how they join, what is wanted of them."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.admin import display
from django.template.defaultfilters import filesizeformat

from models_app import nodes
from models_app.admin.acts import Act, Doing, Shown
from models_app.admin.panel import Panel
from models_app.admin.site import site
from models_app.models import Node, NodeState
from models_app.permissions import Principal


class NameForm(forms.Form):
    """What a node is called."""

    name = forms.CharField(max_length=40, help_text="a-z, 0-9 and hyphens, such as gpu1")


def _allow(doing: Doing, _row: Any) -> Shown:
    name = doing.values["name"]
    return _shown(name, nodes.allow(name, by=doing.by))


def _renew(doing: Doing, node: Node) -> Shown:
    return _shown(node.name, nodes.allow(node.name, by=doing.by))


def _shown(name: str, token: str) -> Shown:
    return Shown(
        title=f"The join token of {name}",
        explains="Put it into a file on that machine, for `ollamasite node --token-file`.",
        secret=token,
    )


def _cordon(doing: Doing, node: Node) -> None:
    nodes.set_state(node.name, NodeState.CORDONED, by=doing.by)


def _drain(doing: Doing, node: Node) -> None:
    nodes.set_state(node.name, NodeState.DRAINING, by=doing.by)


def _uncordon(doing: Doing, node: Node) -> None:
    nodes.set_state(node.name, NodeState.ACTIVE, by=doing.by)


def _remove(doing: Doing, node: Node) -> None:
    nodes.remove(node.name, by=doing.by)


def _operators(principal: Principal) -> bool:
    return principal.may_operate


class NodeAdmin(Panel):
    """The machines that may join."""

    is_for_operators = True
    fields = (
        *("name", "state", "heard", "address", "fingerprint", "memory", "gpus"),
        *("created_at", "joined_at"),
    )
    list_display = ("name", "state", "address", "heard")
    list_display_links = ("name",)
    search_fields = ("name",)
    sortable_by = ()
    acts = (
        Act(
            name="allow",
            label="Let a machine join",
            explains="Its token is shown once.",
            do=_allow,
            form=NameForm,
            is_of_none=True,
        ),
        Act(
            name="cordon",
            label="Cordon",
            explains="It gets no new requests; those it has go on.",
            do=_cordon,
            is_of=_operators,
            is_for=lambda node: node.state != NodeState.CORDONED,
        ),
        Act(
            name="drain",
            label="Drain",
            explains="It gets no new requests, and its models leave when theirs have ended.",
            do=_drain,
            is_of=_operators,
            is_for=lambda node: node.state != NodeState.DRAINING,
        ),
        Act(
            name="uncordon",
            label="Uncordon",
            explains="It gets requests again.",
            do=_uncordon,
            is_of=_operators,
            is_for=lambda node: node.state != NodeState.ACTIVE,
        ),
        Act(
            name="new-token",
            label="New join token",
            explains="The old one is good no longer, and the machine has to join anew.",
            do=_renew,
            is_single=True,
        ),
        Act(
            name="remove",
            label="Remove",
            explains="Its token is good no longer, and requests that run on it fail.",
            do=_remove,
            is_grave=True,
        ),
    )

    @display(description="last heard of")
    def heard(self, node: Node) -> str:
        """Return when it was heard of last, and whether it is lost."""
        return nodes.listed(node).heard

    @display(description="memory")
    def memory(self, node: Node) -> str:
        """Return what models may take there."""
        return "-" if node.memory_bytes is None else filesizeformat(node.memory_bytes)

    @display(description="GPUs")
    def gpus(self, node: Node) -> str:
        """Return its GPUs and their memory."""
        return ", ".join(map(_gpu, node.devices)) or "none"


def _gpu(device: Mapping[str, Any]) -> str:
    total = device.get("total_bytes")
    return f"{device.get('name')} ({filesizeformat(total)})" if total else str(device.get("name"))


site.register(Node, NodeAdmin)
