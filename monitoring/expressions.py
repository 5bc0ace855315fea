"""How a panel asks Prometheus: rates and quantiles of this namespace's series over the range that Grafana chooses."""

from typing import Final

from monitoring.panels import Query

HERE: Final = 'namespace=~"$namespace"'
RANGE: Final = "$__rate_interval"
OURS: Final = "stepaudio_orchestrator_"
"""What the names of the orchestrator's series begin with."""


def rate(metric: str, *, by: str = "", where: str = "") -> str:
    """Events a second over all series of this namespace, or by labels."""
    matchers = ",".join(filter(None, (HERE, where)))
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{matchers}}}[{RANGE}]))"


def quantile(share: float, metric: str, *, by: str = "", where: str = "") -> str:
    """A quantile of a histogram, over all series of this namespace, or by labels."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', by=labels, where=where)})"


def quantiles(metric: str, where: str = "") -> tuple[Query, ...]:
    """Three quantiles of a histogram: the middle, 95 % and 99 %."""
    return tuple(Query(quantile(share, metric, where=where), f"p{round(share * 100)}") for share in (0.5, 0.95, 0.99))


def mean(metric: str, *, by: str = "") -> str:
    """The mean of a histogram or summary."""
    return f"{rate(f'{metric}_sum', by=by)} / {rate(f'{metric}_count', by=by)}"
