"""What is beside the pipelines."""
