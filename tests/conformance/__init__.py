"""The Open Inference Protocol, spoken by stock clients to our servicer and to another one."""
