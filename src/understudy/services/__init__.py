"""Service LLMs behind one interface: the client, and one adapter per provider."""
