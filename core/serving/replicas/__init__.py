"""The server many times behind one address, as replicas of Ray Serve."""
