"""What the project claims of itself, measured: accuracy over many architectures, cost and accuracy beside others."""
