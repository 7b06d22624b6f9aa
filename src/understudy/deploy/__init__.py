"""Taking a trained model into use: export, serve, and the gateway that moves traffic to it."""
