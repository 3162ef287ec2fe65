"""What `make up` and `make demo` show of a running stack."""
