"""All that is known of Anthropic's wire format."""
