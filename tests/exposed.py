"""Read what is written for Prometheus."""

from __future__ import annotations

import socket

from prometheus_client.parser import text_string_to_metric_families


def samples(text):
    """Give the values by ``series``."""
    return {
        series(sample.name, **sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def series(name, **labels):
    """Name a series: ``name{label=value,…}``, labels sorted."""
    return name + "{" + ",".join(f"{label}={value}" for label, value in sorted(labels.items())) + "}"


def free_port():
    """Find a port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
