"""Parts of a config as `conf/` has them, with other values where a test gives some."""

from typing import Any

from understudy.config import (
    AccelerateConfig,
    Bias,
    ClusterConfig,
    ExportConfig,
    GatewayConfig,
    ServeConfig,
    Service,
)
from understudy.config.base import base, complete_service
from understudy.config.cluster import Resources


def accelerate(**given: Any) -> AccelerateConfig:
    return AccelerateConfig(**base("_base")["accelerate"] | given)


def bias(**given: float) -> Bias:
    return Bias(**base("service/_unbiased")["bias"] | given)


def cluster(**given: Any) -> ClusterConfig:
    return ClusterConfig(**base("_base")["cluster"] | given)


def export(**given: Any) -> ExportConfig:
    return ExportConfig(**base("export/default") | given)


def gateway(**given: Any) -> GatewayConfig:
    return GatewayConfig(**base("gateway/default") | given)


def resources(**given: Any) -> Resources:
    return Resources(**base("_base")["cluster"]["gpu"] | given)


def serve(**given: Any) -> ServeConfig:
    return ServeConfig(**base("serve/default") | given)


def service(**given: Any) -> Service:
    return Service(**complete_service(given))
