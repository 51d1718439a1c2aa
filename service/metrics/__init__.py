"""Tell Prometheus how the service does; ``docs/metrics.md`` lists every metric.

What happens is counted by whom it happens to (``instruments``), what there is is read when it is asked for
(``readings``), and ``exposition`` writes both down.  Only this room knows prometheus_client.
"""
