"""What the families share: the registration of ops, arguments, errors, tracing, gradients."""
