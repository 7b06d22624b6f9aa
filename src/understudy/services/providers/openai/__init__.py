"""All that is known of OpenAI's wire format, which many servers speak."""
