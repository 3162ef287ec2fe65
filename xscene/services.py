"""The services of xscene and where they listen by default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServiceInfo:
    """One service: its name in settings, ports and images."""

    name: str
    package: str
    port: int
    grpc_service: str

    @property
    def metrics_port(self) -> int:
        """Where Prometheus finds the service by default."""
        return self.port + METRICS_PORT_OFFSET


METRICS_PORT_OFFSET = 1000
INFERENCE = "inference.GRPCInferenceService"

SERVICES = {
    info.name: info
    for info in (
        ServiceInfo(name="gateway", package="gateway", port=50050, grpc_service="xscene.v1.SceneService"),
        ServiceInfo(name="text", package="encoders_1d", port=50051, grpc_service=INFERENCE),
        ServiceInfo(name="image", package="encoders_2d", port=50052, grpc_service=INFERENCE),
        ServiceInfo(name="points", package="encoders_3d", port=50053, grpc_service=INFERENCE),
        ServiceInfo(name="fusion", package="fusion", port=50054, grpc_service="xscene.v1.FusionService"),
        ServiceInfo(name="trainer", package="trainer", port=50055, grpc_service="xscene.v1.TrainerService"),
        ServiceInfo(
            name="vectorstore", package="gateway.vectorstore", port=6334, grpc_service="qdrant.Points"
        ),
    )
}
