"""What the service costs; one module per claim."""
