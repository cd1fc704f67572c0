"""What starts, supervises and configures."""
