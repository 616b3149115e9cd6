"""What allocation promises, each on a whole simulated cluster, with exact bounds in simulated time."""
