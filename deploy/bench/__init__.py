"""Measures what serving costs, beside bare computation, plain gRPC and other servers."""
